-- Changes of shares among the ETFs that compare, of the weeks in which not all of them do. All other changes are those
-- of the shares themselves.
with compared as (

    select *
    from {{ ref('int_etf__comparison') }}
    where (week_end, weeks) in (select (week_end, weeks) from {{ ref('int_etf__comparison') }} where not is_compared)

),

sides as (

    select week_end, weeks, week_end as day, etf_code, held_value_cny
    from compared
    where is_compared and held_value_cny is not null

    union all

    select week_end, weeks, before_week_end as day, etf_code, before_value_cny as held_value_cny
    from compared
    where is_compared and before_value_cny is not null

),

by_index as (

    select
        sides.week_end,
        sides.weeks,
        sides.day,
        etf.index_code,
        etf.look_through,
        etf.as_of_date,
        etf.segment_start,
        case when etf.look_through = 'theme' then etf.theme_industry_code end as theme_industry_code,
        {{ exact_sum('sides.held_value_cny') }} as held_value_cny
    from sides
    inner join {{ ref('int_etf__week') }} as etf on sides.etf_code = etf.etf_code and sides.day = etf.week_end
    group by all

),

by_industry as (

    select
        by_index.week_end,
        by_index.weeks,
        by_index.day,
        coalesce(by_index.theme_industry_code, weight.industry_code) as industry_code,
        {{ exact_sum('by_index.held_value_cny * coalesce(weight.weight, 1)') }} as held_value_cny
    from by_index
    left join {{ ref('int_index__industry_weight') }} as weight
        on
            by_index.look_through = 'weights'
            and by_index.index_code = weight.index_code
            and by_index.as_of_date = weight.as_of_date
            and by_index.segment_start = weight.segment_start
            and weight.industry_code is not null
    where by_index.theme_industry_code is not null or weight.industry_code is not null
    group by all

),

shares as (

    select
        *,
        held_value_cny / nullif({{ exact_sum('held_value_cny', 'over (partition by week_end, weeks, day)') }}, 0) as held_share_ratio
    from by_industry

)

-- an industry none of them holds has no share on both dates
select
    pairs.week_end,
    pairs.weeks,
    industry.industry_code,
    coalesce(now.held_share_ratio, 0) - coalesce(before.held_share_ratio, 0) as held_share_change_ratio
from (select distinct week_end, weeks, before_week_end from compared) as pairs
cross join {{ ref('stg_industry__info') }} as industry
left join shares as now
    on
        pairs.week_end = now.week_end
        and pairs.weeks = now.weeks
        and pairs.week_end = now.day
        and industry.industry_code = now.industry_code
left join shares as before
    on
        pairs.week_end = before.week_end
        and pairs.weeks = before.weeks
        and pairs.before_week_end = before.day
        and industry.industry_code = before.industry_code
