-- float value of an industry changes with a new month-end set of values, or when a stock changes industry
with sets as (

    select trade_date, max(known_date) as known_date
    from {{ ref('stg_stock__value') }}
    group by all

),

periods as (

    select
        trade_date,
        known_date as valid_from,
        coalesce(lead(known_date) over (order by known_date), date '9999-12-31') as valid_to
    from (

        {{ newest_known('(select *, 1 as market from sets)', 'market', 'trade_date') }}

    )

),

segments as (

    select trade_date, valid_from as segment_start
    from periods

    union

    select periods.trade_date, membership.changed_on as segment_start
    from periods
    inner join {{ membership_changes() }} as membership
        on membership.changed_on > periods.valid_from and membership.changed_on < periods.valid_to

),

valued as (

    select
        segments.segment_start,
        membership.industry_code,
        {{ exact_sum('value.float_market_value_cny') }} as float_market_value_cny
    from segments
    inner join {{ ref('stg_stock__value') }} as value using (trade_date)
    inner join {{ ref('stg_industry__membership') }} as membership
        on
            value.stock_code = membership.stock_code
            and segments.segment_start >= membership.in_date
            and segments.segment_start < membership.out_date
    group by all

)

-- an industry without any valued stock has an empty row, so that its value of before does not live on
select
    segments.segment_start,
    segments.trade_date as value_date,
    industry.industry_code,
    valued.float_market_value_cny
from segments
cross join {{ ref('stg_industry__info') }} as industry
left join valued using (segment_start, industry_code)
