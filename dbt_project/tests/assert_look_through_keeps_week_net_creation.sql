{{ config(meta={'dagster': {'ref': {'name': 'int_industry__look_through'}}}) }}

with looked_through as (

    select week_end, sum(week_net_creation_cny) as value_cny
    from {{ ref('int_industry__look_through') }}
    where {{ untested('week_end') }}
    group by all

),

etfs as (

    select
        held.week_end,
        sum(flow.interval_net_creation_cny) as value_cny,
        sum(abs(flow.interval_net_creation_cny)) as moved_cny
    from {{ ref('int_etf__held_value') }} as held
    inner join {{ ref('int_etf__flow') }} as flow using (etf_code, trade_date)
    where
        flow.flow_known_date = flow.trade_date
        and {{ untested('held.week_end') }}
    group by all

)

select week_end, looked_through.value_cny, etfs.value_cny as etf_value_cny
from looked_through
full outer join etfs using (week_end)
where
    abs(coalesce(looked_through.value_cny, 0) - coalesce(etfs.value_cny, 0))
    > {{ var('conservation_tolerance') }} * coalesce(etfs.moved_cny, 0)
