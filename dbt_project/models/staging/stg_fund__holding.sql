{{ config(materialized='incremental', unique_key='report_date') }}

with known as (

    {{ with_known_date(source('raw', 'fund_holding'), 'report_date') }}

)

select fund_code, report_date, known_date, stock_code, market_value as market_value_cny
from known
