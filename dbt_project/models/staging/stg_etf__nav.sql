with known as (

    {{ with_known_date(source('raw', 'etf_nav')) }}

)

select *
from known
where unit_nav is not null
