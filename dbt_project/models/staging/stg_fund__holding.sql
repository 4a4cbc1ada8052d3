with known as (

    {{ with_known_date(source('raw', 'fund_holding')) }}

)

select fund_code, report_date, known_date, stock_code, market_value as market_value_cny
from known
