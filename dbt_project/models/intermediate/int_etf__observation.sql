-- zero shares are a hole in the file, not a redemption of everything
with observed as (

    select
        share.etf_code,
        share.trade_date,
        greatest(share.known_date, price.known_date) as known_date,
        session.session_number,
        session.week_end,
        share.shares,
        price.unit_nav,
        price.close,
        price.vwap
    from {{ ref('stg_etf__share') }} as share
    inner join {{ ref('stg_calendar__session') }} as session using (trade_date)
    left join {{ ref('int_etf__price') }} as price using (etf_code, trade_date)
    where share.shares > 0

)

select
    *,
    lag(trade_date) over etf as previous_date,
    session_number - lag(session_number) over etf as interval_sessions,
    lag(shares) over etf as previous_shares,
    lag(unit_nav) over etf as previous_unit_nav,
    lag(close) over etf as previous_close,
    coalesce(lag(unit_nav) over etf / unit_nav, lag(close) over etf / close, lag(vwap) over etf / vwap)
    is not null as has_price
from observed
window etf as (partition by etf_code order by trade_date)
