{{ config(meta={'dagster': {'ref': {'name': 'int_industry__look_through'}}}) }}

with looked_through as (

    select trade_date, sum(held_value_cny) as value_cny
    from {{ ref('int_industry__look_through') }}
    where {{ untested('trade_date') }}
    group by all

),

etfs as (

    select trade_date, sum(held_value_cny) as value_cny
    from {{ ref('int_etf__held_value') }}
    where {{ untested('trade_date') }}
    group by all

)

select trade_date, looked_through.value_cny, etfs.value_cny as etf_value_cny
from looked_through
full outer join etfs using (trade_date)
where
    abs(coalesce(looked_through.value_cny, 0) - coalesce(etfs.value_cny, 0))
    > {{ var('conservation_tolerance') }} * coalesce(etfs.value_cny, 0)
