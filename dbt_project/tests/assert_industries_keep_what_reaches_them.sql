{{ config(meta={'dagster': {'ref': {'name': 'industry_daily'}}}) }}

with looked_through as (

    select
        trade_date,
        sum(held_value_cny) as value_cny,
        sum(net_creation_cny) as flow_cny,
        sum(abs(net_creation_cny)) as moved_cny
    from {{ ref('int_industry__look_through') }}
    where industry_code is not null
    group by all

),

industries as (

    select trade_date, sum(held_value_cny) as value_cny, sum(net_creation_cny) as flow_cny
    from {{ ref('industry_daily') }}
    group by all

)

select trade_date, industries.value_cny, looked_through.value_cny as looked_through_value_cny
from looked_through
full outer join industries using (trade_date)
where
    abs(coalesce(looked_through.value_cny, 0) - coalesce(industries.value_cny, 0))
    > {{ var('conservation_tolerance') }} * coalesce(looked_through.value_cny, 0)
    or abs(coalesce(looked_through.flow_cny, 0) - coalesce(industries.flow_cny, 0))
    > {{ var('conservation_tolerance') }} * coalesce(looked_through.moved_cny, 0)
