{{ config(materialized='incremental', unique_key='trade_date') }}

with spread as (

    select
        daily.trade_date,
        daily.week_end,
        case when weight.basis = 'constituents' and daily.is_stale then 'stale weights' else weight.basis end as basis,
        weight.industry_code,
        daily.held_value_cny * weight.weight as held_value_cny,
        daily.net_creation_cny * weight.weight as net_creation_cny,
        daily.week_net_creation_cny * weight.weight as week_net_creation_cny,
        daily.gap_net_creation_cny * weight.weight as gap_net_creation_cny,
        daily.etfs_with_flow,
        daily.value_with_flow_cny * weight.weight as value_with_flow_cny
    from {{ ref('int_index__daily') }} as daily
    inner join {{ ref('int_index__industry_weight') }} as weight using (index_code, as_of_date, segment_start)
    where daily.look_through = 'weights' and {{ since('daily.trade_date') }}

    union all

    select
        trade_date,
        week_end,
        look_through as basis,
        case when look_through = 'theme' then theme_industry_code end as industry_code,
        held_value_cny,
        net_creation_cny,
        week_net_creation_cny,
        gap_net_creation_cny,
        etfs_with_flow,
        value_with_flow_cny
    from {{ ref('int_index__daily') }}
    where look_through <> 'weights' and {{ since('trade_date') }}

)

select
    trade_date,
    week_end,
    basis,
    industry_code,
    {{ exact_sum('held_value_cny') }} as held_value_cny,
    {{ exact_sum('net_creation_cny') }} as net_creation_cny,
    {{ exact_sum('week_net_creation_cny') }} as week_net_creation_cny,
    {{ exact_sum('gap_net_creation_cny') }} as gap_net_creation_cny,
    cast(sum(etfs_with_flow) as integer) as etfs_with_flow,
    {{ exact_sum('value_with_flow_cny') }} as value_with_flow_cny
from spread
group by all
