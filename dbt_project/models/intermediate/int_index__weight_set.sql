with sets as (

    select index_code, as_of_date, max(known_date) as known_date
    from {{ ref('stg_index__weight') }}
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
