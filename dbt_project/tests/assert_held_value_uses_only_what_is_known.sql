{{ config(meta={'dagster': {'ref': {'name': 'int_etf__held_value'}}}) }}

select held.etf_code, held.trade_date, held.share_date, held.price_date
from {{ ref('int_etf__held_value') }} as held
left join {{ ref('stg_etf__share') }} as share
    on held.etf_code = share.etf_code and held.share_date = share.trade_date
left join {{ ref('int_etf__price') }} as price
    on held.etf_code = price.etf_code and held.price_date = price.trade_date
where
    held.share_date > held.trade_date
    or held.price_date > held.trade_date
    or coalesce(share.known_date > held.trade_date, true)
    or coalesce(price.known_date > held.trade_date, true)
