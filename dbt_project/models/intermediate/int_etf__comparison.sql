-- Like for like: a change over some weeks compares the ETFs whose value reached the industries in the same way on both
-- dates. One that is listed or ends in between is compared, too: its value of the other date is zero, not unknown.
with weeks as (

    select distinct week_end, week_number from {{ ref('int_etf__week') }}

),

pairs as (

    select now.week_end, now.week_number, before.week_end as before_week_end, span.weeks
    from weeks as now
    cross join (select distinct unnest([1, {{ var('change_weeks') }}]) as weeks) as span
    inner join weeks as before on now.week_number - span.weeks = before.week_number

),

sides as (

    select pairs.week_end, pairs.before_week_end, pairs.weeks, etf.etf_code, etf.look_through, etf.held_value_cny, false as is_before
    from pairs
    inner join {{ ref('int_etf__week') }} as etf on pairs.week_end = etf.week_end

    union all

    select pairs.week_end, pairs.before_week_end, pairs.weeks, etf.etf_code, etf.look_through, etf.held_value_cny, true as is_before
    from pairs
    inner join {{ ref('int_etf__week') }} as etf on pairs.before_week_end = etf.week_end

),

both_sides as (

    select
        week_end,
        before_week_end,
        weeks,
        etf_code,
        max(held_value_cny) filter (where not is_before) as held_value_cny,
        max(held_value_cny) filter (where is_before) as before_value_cny,
        max(look_through) filter (where not is_before) as look_through,
        max(look_through) filter (where is_before) as before_look_through
    from sides
    group by all

)

select
    both_sides.* exclude (look_through, before_look_through),
    case
        when both_sides.before_look_through is null then coalesce(info.list_date > both_sides.before_week_end, false)
        when both_sides.look_through is null then coalesce(info.delist_date <= both_sides.week_end, false)
        else both_sides.look_through = both_sides.before_look_through
    end as is_compared
from both_sides
inner join {{ ref('stg_etf__info') }} as info using (etf_code)
