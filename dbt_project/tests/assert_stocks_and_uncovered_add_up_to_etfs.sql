{{ config(meta={'dagster': {'ref': {'name': 'stock_weekly'}}}) }}

with stocks as (

    select week_end, sum(held_value_cny) as value_cny, sum(net_creation_cny) as flow_cny
    from {{ ref('stock_weekly') }}
    group by all

),

uncovered as (

    select
        week_end,
        sum(held_value_cny) filter (where trade_date = week_end) as value_cny,
        sum(week_net_creation_cny) as flow_cny
    from {{ ref('int_industry__look_through') }}
    where basis in ('theme', 'no weights', 'enhanced', 'weight remainder')
    group by all

),

etfs as (

    select
        week_end,
        sum(held_value_cny) filter (where trade_date = week_end) as value_cny,
        sum(week_net_creation_cny) as flow_cny,
        sum(abs(week_net_creation_cny)) as moved_cny
    from {{ ref('int_index__daily') }}
    group by all
    -- a week the data ends in is not published per stock
    having bool_or(trade_date = week_end)

)

select
    week_end,
    coalesce(stocks.value_cny, 0) + coalesce(uncovered.value_cny, 0) as value_cny,
    etfs.value_cny as etf_value_cny,
    coalesce(stocks.flow_cny, 0) + coalesce(uncovered.flow_cny, 0) as flow_cny,
    etfs.flow_cny as etf_flow_cny
from etfs
left join stocks using (week_end)
left join uncovered using (week_end)
where
    abs(coalesce(stocks.value_cny, 0) + coalesce(uncovered.value_cny, 0) - coalesce(etfs.value_cny, 0))
    > {{ var('conservation_tolerance') }} * coalesce(etfs.value_cny, 0)
    or abs(coalesce(stocks.flow_cny, 0) + coalesce(uncovered.flow_cny, 0) - coalesce(etfs.flow_cny, 0))
    > {{ var('conservation_tolerance') }} * coalesce(etfs.moved_cny, 0)
