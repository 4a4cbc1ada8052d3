with weekly as (

    select
        week_end,
        cast(count(*) as integer) as etfs,
        {{ exact_sum('held_value_cny') }} as value_cny,
        cast(count(distinct case when look_through = 'weights' then index_code end) as integer) as weight_sets,
        first(etf_code order by held_value_cny desc, etf_code) as largest_etf_code,
        max(held_value_cny) as largest_value_cny,
        cast(count(*) filter (where has_flow) as integer) as etfs_with_flow,
        {{ exact_sum('case when has_flow then held_value_cny end') }} as value_with_flow_cny
    from {{ ref('int_etf__week') }}
    group by week_end

),

coverage as (

    select
        week_end,
        {{ exact_sum("case when basis in ('constituents', 'stale weights', 'theme') then value_cny else 0 end") }}
        / {{ exact_sum('value_cny') }} as coverage_ratio
    from {{ ref('look_through_coverage') }}
    group by week_end

),

compared as (

    select
        week_end,
        before_week_end,
        weeks,
        cast(count(*) filter (where is_compared) as integer) as etfs,
        {{ exact_sum('case when is_compared then held_value_cny end') }} as value_cny,
        least(
            {{ exact_sum('case when is_compared then held_value_cny else 0 end') }} / {{ exact_sum('held_value_cny') }},
            {{ exact_sum('case when is_compared then before_value_cny else 0 end') }} / {{ exact_sum('before_value_cny') }}
        ) as ratio
    from {{ ref('int_etf__comparison') }}
    group by all

)

select
    weekly.week_end,
    weekly.etfs,
    weekly.value_cny,
    coverage.coverage_ratio,
    weekly.weight_sets,
    weekly.largest_etf_code,
    weekly.largest_value_cny / weekly.value_cny as largest_etf_ratio,
    weekly.etfs_with_flow,
    coalesce(weekly.value_with_flow_cny, 0) / weekly.value_cny as value_with_flow_ratio,
    last_week.etfs as compared_etfs,
    last_week.value_cny as compared_value_cny,
    last_week.ratio as compared_ratio,
    coverage_last_week.coverage_ratio as coverage_before_ratio,
    weeks_ago.etfs as medium_compared_etfs,
    weeks_ago.value_cny as medium_compared_value_cny,
    weeks_ago.ratio as medium_compared_ratio,
    coverage_weeks_ago.coverage_ratio as medium_coverage_before_ratio,
    {{ text_var('source_label') }} as source
from weekly
left join coverage using (week_end)
left join compared as last_week on weekly.week_end = last_week.week_end and last_week.weeks = 1
left join coverage as coverage_last_week on last_week.before_week_end = coverage_last_week.week_end
left join compared as weeks_ago
    on weekly.week_end = weeks_ago.week_end and weeks_ago.weeks = {{ var('change_weeks') }}
left join coverage as coverage_weeks_ago on weeks_ago.before_week_end = coverage_weeks_ago.week_end
