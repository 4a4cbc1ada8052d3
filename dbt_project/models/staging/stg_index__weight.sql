{{ config(materialized='incremental', unique_key='as_of_date') }}

with known as (

    {{ with_known_date(source('raw', 'index_weight'), 'as_of_date') }}

)

select
    index_code,
    as_of_date,
    known_date,
    stock_code,
    weight,
    right(stock_code, 3) in ('.SH', '.SZ', '.BJ') as is_a_share
from known
where weight > 0
