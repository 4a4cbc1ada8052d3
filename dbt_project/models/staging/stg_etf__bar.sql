{{ config(materialized='incremental', unique_key='trade_date') }}

with known as (

    {{ with_known_date(source('raw', 'etf_bar'), 'trade_date') }}

)

select
    etf_code,
    trade_date,
    known_date,
    close,
    coalesce(adjusted_close, close * adjustment_factor) as adjusted_close,
    volume as volume_shares,
    amount as amount_cny,
    case when volume > 0 then amount / volume end as vwap
from known
