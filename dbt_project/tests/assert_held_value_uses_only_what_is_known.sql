{{ config(meta={'dagster': {'ref': {'name': 'int_etf__held_value'}}}) }}

with held as (

    select * from {{ ref('int_etf__held_value') }} where {{ untested('trade_date') }}

),

known as (

    select held.etf_code, held.trade_date
    from held
    inner join {{ ref('stg_etf__share') }} as share
        on held.etf_code = share.etf_code and held.share_date = share.trade_date
    inner join {{ ref('int_etf__flow') }} as flow
        on held.etf_code = flow.etf_code and held.share_date = flow.trade_date
    inner join {{ ref('int_etf__price') }} as price
        on held.etf_code = price.etf_code and held.price_date = price.trade_date
    where
        held.share_date <= held.trade_date
        and held.price_date <= held.trade_date
        and share.known_date <= held.trade_date
        -- a jump of the shares without NAVs is known a session later, shares that did not follow a split never are
        and flow.known_date <= held.trade_date
        and not flow.is_doubted
        and case when held.is_nav then price.nav_known_date else price.market_known_date end <= held.trade_date

)

select held.etf_code, held.trade_date, held.share_date, held.price_date
from held
anti join known using (etf_code, trade_date)
