{{ config(meta={'dagster': {'ref': {'name': 'int_index__daily'}}}) }}

with known as (

    select
        index_code,
        as_of_date,
        known_date,
        sum(weight) over (partition by index_code, as_of_date order by known_date) as known_weight
    from {{ ref('stg_index__weight') }}

),

sets as (

    select index_code, as_of_date, min(known_date) as known_date
    from known
    -- room for the rounding of a sum of doubles
    where known_weight >= {{ var('weight_set_minimum') }} - {{ var('conservation_tolerance') }}
    group by all

)

select daily.trade_date, daily.index_code, daily.as_of_date, max(sets.as_of_date) as newest_known
from {{ ref('int_index__daily') }} as daily
inner join sets on daily.index_code = sets.index_code and sets.known_date <= daily.trade_date
where {{ untested('daily.trade_date') }}
group by all
having newest_known is distinct from daily.as_of_date
