{{ config(materialized='incremental', unique_key='trade_date') }}

{{ with_known_date(source('raw', 'etf_share'), 'trade_date') }}
