{{ config(materialized='incremental', unique_key='trade_date') }}

-- NAV and traded price are known at different moments, so each keeps its own
select
    etf_code,
    trade_date,
    nav.unit_nav,
    nav.known_date as nav_known_date,
    bar.close,
    bar.adjusted_close,
    bar.vwap,
    coalesce(bar.close, bar.vwap) as market_price,
    bar.amount_cny,
    bar.known_date as market_known_date
from (select * from {{ ref('stg_etf__nav') }} where {{ since('trade_date') }}) as nav
full outer join (select * from {{ ref('stg_etf__bar') }} where {{ since('trade_date') }}) as bar using (etf_code, trade_date)
