{{ config(materialized='incremental', unique_key='week_end') }}

select
    stock.week_end,
    stock.stock_code,
    membership.industry_code,
    stock.is_a_share,
    stock.held_value_cny,
    stock.net_creation_cny,
    {{ text_var('source_label') }} as source
from {{ ref('int_stock__weekly') }} as stock
left join {{ ref('stg_industry__membership') }} as membership
    on
        stock.stock_code = membership.stock_code
        and stock.is_a_share
        and stock.week_end >= membership.in_date
        and stock.week_end < membership.out_date
where
    {{ since('stock.week_end') }}
    and stock.week_end <= (select max(trade_date) from {{ ref('stg_etf__share') }})
    and (stock.held_value_cny is not null or stock.net_creation_cny is not null)
