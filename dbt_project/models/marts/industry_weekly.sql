with weekly as (

    select
        daily.scheme,
        daily.week_end,
        week.week_number,
        daily.industry_code,
        daily.industry_name,
        max(daily.held_value_cny) filter (where daily.trade_date = daily.week_end) as held_value_cny,
        max(daily.held_share_ratio) filter (where daily.trade_date = daily.week_end) as held_share_ratio,
        max(daily.float_market_value_cny) filter (where daily.trade_date = daily.week_end) as float_market_value_cny,
        max(daily.penetration_ratio) filter (where daily.trade_date = daily.week_end) as penetration_ratio,
        {{ exact_sum('daily.week_net_creation_cny') }} as net_creation_cny
    from {{ ref('industry_daily') }} as daily
    inner join {{ ref('stg_calendar__week') }} as week using (week_end)
    group by all
    -- a week the data ends in has no week end yet
    having bool_or(daily.trade_date = daily.week_end)

)

select
    weekly.scheme,
    weekly.week_end,
    weekly.industry_code,
    weekly.industry_name,
    weekly.held_value_cny,
    weekly.held_share_ratio,
    weekly.float_market_value_cny,
    weekly.penetration_ratio,
    weekly.net_creation_cny,
    weekly.held_share_ratio - last_week.held_share_ratio as held_share_change_ratio,
    weekly.held_share_ratio - weeks_ago.held_share_ratio as held_share_medium_change_ratio,
    {{ text_var('source_label') }} as source
from weekly
left join weekly as last_week
    on weekly.industry_code = last_week.industry_code and weekly.week_number - 1 = last_week.week_number
left join weekly as weeks_ago
    on
        weekly.industry_code = weeks_ago.industry_code
        and weekly.week_number - {{ var('change_weeks') }} = weeks_ago.week_number
