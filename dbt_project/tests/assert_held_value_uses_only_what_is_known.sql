{{ config(meta={'dagster': {'ref': {'name': 'int_etf__held_value'}}}) }}

select held.etf_code, held.trade_date, held.share_date, held.price_date
from {{ ref('int_etf__held_value') }} as held
left join {{ ref('stg_etf__share') }} as share
    on held.etf_code = share.etf_code and held.share_date = share.trade_date
left join {{ ref('int_etf__flow') }} as flow
    on held.etf_code = flow.etf_code and held.share_date = flow.trade_date
left join {{ ref('int_etf__price') }} as price
    on held.etf_code = price.etf_code and held.price_date = price.trade_date
where
    {{ untested('held.trade_date') }}
    and (
        held.share_date > held.trade_date
        or held.price_date > held.trade_date
        or coalesce(share.known_date > held.trade_date, true)
        -- a jump of the shares without NAVs is known a session later, shares that did not follow a split never are
        or coalesce(flow.known_date > held.trade_date or flow.is_unfollowed, true)
        or coalesce(case when held.is_nav then price.nav_known_date else price.market_known_date end > held.trade_date, true)
    )
