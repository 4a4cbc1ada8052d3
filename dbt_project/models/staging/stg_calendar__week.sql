select
    week_end,
    row_number() over (order by week_end) as week_number,
    lag(week_end) over (order by week_end) as previous_week_end
from {{ ref('stg_calendar__session') }}
where trade_date = week_end
