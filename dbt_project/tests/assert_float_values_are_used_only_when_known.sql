{{ config(meta={'dagster': {'ref': {'name': 'int_industry__float_value'}}}) }}

-- the newest value of each stock known by each of the last segments, looked up anew
with segments as (

    select distinct segment_start
    from {{ ref('int_industry__float_value') }}
    order by segment_start desc
    limit 24

),

known as (

    select segments.segment_start, value.stock_code, value.trade_date, value.float_market_value_cny
    from segments
    inner join {{ ref('stg_stock__value') }} as value on segments.segment_start >= value.known_date
    qualify
        dense_rank() over (partition by segments.segment_start order by value.trade_date desc) <= 2
        and row_number() over (partition by segments.segment_start, value.stock_code order by value.trade_date desc) = 1

),

expected as (

    select known.segment_start, membership.industry_code, sum(known.float_market_value_cny) as float_market_value_cny
    from known
    inner join {{ ref('stg_industry__membership') }} as membership
        on
            known.stock_code = membership.stock_code
            and known.segment_start >= membership.in_date
            and known.segment_start < membership.out_date
    group by all

),

used as (

    select segments.segment_start, value.industry_code, value.float_market_value_cny
    from segments
    inner join {{ ref('int_industry__float_value') }} as value on segments.segment_start >= value.segment_start
    qualify
        row_number() over (
            partition by segments.segment_start, value.industry_code order by value.segment_start desc
        ) = 1

)

select *
from expected
full outer join used using (segment_start, industry_code)
where
    coalesce(
        abs(used.float_market_value_cny - expected.float_market_value_cny)
        > {{ var('conservation_tolerance') }} * expected.float_market_value_cny,
        used.float_market_value_cny is not null or expected.float_market_value_cny is not null
    )
