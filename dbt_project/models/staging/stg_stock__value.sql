{{ config(materialized='incremental', unique_key='trade_date') }}

with known as (

    {{ with_known_date(source('raw', 'stock_value'), 'trade_date') }}

)

select stock_code, trade_date, known_date, float_market_value as float_market_value_cny
from known
