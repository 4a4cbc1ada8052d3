with arrival as (

    select index_code, as_of_date, known_date, {{ decimal_sum('weight', scale=15, digits=18) }} as weight
    from {{ ref('stg_index__weight') }}
    group by all

),

so_far as (

    select
        index_code,
        as_of_date,
        known_date,
        sum(weight) over (partition by index_code, as_of_date order by known_date) as known_weight
    from arrival

),

-- a set is used once enough of it is known: what comes later joins it and does not delay it
sets as (

    select index_code, as_of_date, min(known_date) as known_date
    from so_far
    where known_weight >= {{ var('weight_set_minimum') }} - {{ var('conservation_tolerance') }}
    group by all

),

usable as (

    {{ newest_known('sets', 'index_code', 'as_of_date') }}

)

select
    index_code,
    as_of_date,
    known_date as valid_from,
    coalesce(lead(known_date) over (partition by index_code order by known_date), date '9999-12-31') as valid_to
from usable
