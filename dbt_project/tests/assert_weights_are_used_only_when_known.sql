{{ config(meta={'dagster': {'ref': {'name': 'int_index__industry_weight'}}}) }}

with used as (

    select index_code, as_of_date, segment_start, sum(weight) as weight
    from {{ ref('int_index__industry_weight') }}
    where basis <> 'weight remainder' and {{ untested('segment_start') }}
    group by all

)

select used.index_code, used.as_of_date, used.segment_start, used.weight, sum(known.weight) as known_weight
from used
left join {{ ref('stg_index__weight') }} as known
    on
        used.index_code = known.index_code
        and used.as_of_date = known.as_of_date
        and used.segment_start >= known.known_date
group by all
having coalesce(abs(used.weight - sum(known.weight)) > {{ var('conservation_tolerance') }}, true)
