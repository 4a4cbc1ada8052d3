{{ config(meta={'dagster': {'ref': {'name': 'industry_weekly'}}}) }}

with days as (

    select
        week_end,
        industry_code,
        arg_max(trade_date, trade_date) as last_day,
        arg_max(held_value_cny, trade_date) as held_value_cny,
        arg_max(held_share_ratio, trade_date) as held_share_ratio,
        sum(week_net_creation_cny) as net_creation_cny
    from {{ ref('industry_daily') }}
    group by all

)

select coalesce(weeks.week_end, days.week_end) as week_end, coalesce(weeks.industry_code, days.industry_code) as industry_code
from {{ ref('industry_weekly') }} as weeks
full outer join (select * from days where last_day = week_end) as days
    on weeks.week_end = days.week_end and weeks.industry_code = days.industry_code
where
    weeks.held_value_cny is distinct from days.held_value_cny
    or weeks.held_share_ratio is distinct from days.held_share_ratio
    or abs(coalesce(weeks.net_creation_cny, 0) - coalesce(days.net_creation_cny, 0))
    > {{ var('conservation_tolerance') }} * (1 + abs(coalesce(days.net_creation_cny, 0)))
