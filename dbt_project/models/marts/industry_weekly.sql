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

),

flows as (

    select
        week_end,
        industry_code,
        {{ exact_sum('gap_net_creation_cny') }} as gap_net_creation_cny,
        cast(sum(etfs_with_flow) as integer) as etfs_with_flow,
        {{ exact_sum('value_with_flow_cny') }} as value_with_flow_cny
    from {{ ref('int_industry__look_through') }}
    where industry_code is not null
    group by all

),

-- changes of shares, over one and over some weeks: of all value, and of the value that compares where not all does
changes as (

    select
        weekly.week_end,
        weekly.industry_code,
        span.weeks,
        case
            when comparison.week_end is null then weekly.held_share_ratio - before.held_share_ratio
            else comparison.held_share_change_ratio
        end as held_share_change_ratio
    from weekly
    cross join (select distinct unnest([1, {{ var('change_weeks') }}]) as weeks) as span
    inner join weekly as before
        on weekly.industry_code = before.industry_code and weekly.week_number - span.weeks = before.week_number
    left join {{ ref('int_industry__comparison') }} as comparison
        on
            weekly.week_end = comparison.week_end
            and weekly.industry_code = comparison.industry_code
            and span.weeks = comparison.weeks

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
    flows.gap_net_creation_cny,
    coalesce(flows.etfs_with_flow, 0) as etfs_with_flow,
    coalesce(flows.value_with_flow_cny, 0) as value_with_flow_cny,
    case when evidence.compared_ratio >= {{ var('compared_floor') }} then last_week.held_share_change_ratio end
    as held_share_change_ratio,
    case when evidence.medium_compared_ratio >= {{ var('compared_floor') }} then weeks_ago.held_share_change_ratio end
    as held_share_medium_change_ratio,
    {{ text_var('source_label') }} as source
from weekly
left join flows using (week_end, industry_code)
left join {{ ref('look_through_evidence') }} as evidence using (week_end)
left join changes as last_week
    on
        weekly.week_end = last_week.week_end
        and weekly.industry_code = last_week.industry_code
        and last_week.weeks = 1
left join changes as weeks_ago
    on
        weekly.week_end = weeks_ago.week_end
        and weekly.industry_code = weeks_ago.industry_code
        and weeks_ago.weeks = {{ var('change_weeks') }}
