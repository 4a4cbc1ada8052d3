{{ config(materialized='incremental', unique_key='segment_start') }}

with placed as (

    select
        segment.index_code,
        segment.as_of_date,
        segment.segment_start,
        membership.industry_code,
        case
            when not weight.is_a_share then 'outside A shares'
            when membership.industry_code is null then 'no industry'
            else 'constituents'
        end as basis,
        weight.weight
    from {{ ref('int_index__segment') }} as segment
    inner join {{ ref('stg_index__weight') }} as weight
        on
            segment.index_code = weight.index_code
            and segment.as_of_date = weight.as_of_date
            and segment.segment_start >= weight.known_date
    left join {{ ref('stg_industry__membership') }} as membership
        on
            weight.stock_code = membership.stock_code
            and weight.is_a_share
            and segment.segment_start >= membership.in_date
            and segment.segment_start < membership.out_date
    where {{ since('segment.segment_start') }}

)

select index_code, as_of_date, segment_start, basis, industry_code, {{ exact_sum('weight', scale=15, digits=18) }} as weight
from placed
group by all

union all

-- vendors round weights: what the set lacks of one (or has beyond it) stays visible
select index_code, as_of_date, segment_start, 'weight remainder' as basis, null as industry_code, 1 - {{ exact_sum('weight', scale=15, digits=18) }} as weight
from placed
group by all
