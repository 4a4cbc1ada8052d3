with calendar as (

    select
        trade_date,
        lead(trade_date) over (order by trade_date) as next_trade_date,
        lead(trade_date, {{ var('decision_sessions_after') }}) over (order by trade_date) as decision_date
    from {{ source('raw', 'trading_calendar') }}
    where is_open

)

select
    trade_date,
    next_trade_date,
    row_number() over (order by trade_date) as session_number,
    max(trade_date) over (partition by date_trunc('week', trade_date)) as week_end,
    max(trade_date) over (partition by date_trunc('month', trade_date)) as month_end,
    -- the last session of the known calendar has no successor yet: calendar days stand in
    (coalesce(decision_date, trade_date + {{ var('decision_sessions_after') }}) + time '{{ var("decision_time") }}')
        at time zone 'Asia/Shanghai' as decision_at
from calendar
