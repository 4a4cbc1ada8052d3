-- NAV is preferred to the close, the close to the day's average price
select
    etf_code,
    trade_date,
    nav.unit_nav,
    bar.close,
    bar.adjusted_close,
    bar.vwap,
    bar.amount_cny,
    coalesce(nav.unit_nav, bar.close, bar.vwap) as price,
    case when nav.unit_nav is not null then nav.known_date else bar.known_date end as known_date
from {{ ref('stg_etf__nav') }} as nav
full outer join {{ ref('stg_etf__bar') }} as bar using (etf_code, trade_date)
