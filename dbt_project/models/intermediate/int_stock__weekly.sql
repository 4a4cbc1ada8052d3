{{ config(materialized='incremental', unique_key='week_end') }}

with by_set as (

    select
        week_end,
        index_code,
        as_of_date,
        segment_start,
        {{ exact_sum('case when trade_date = week_end then held_value_cny end') }} as held_value_cny,
        {{ exact_sum('week_net_creation_cny') }} as net_creation_cny
    from {{ ref('int_index__daily') }}
    where look_through = 'weights' and {{ since('week_end') }}
    group by all

)

select
    by_set.week_end,
    weight.stock_code,
    weight.is_a_share,
    {{ exact_sum('by_set.held_value_cny * weight.weight', digits=18) }} as held_value_cny,
    {{ exact_sum('by_set.net_creation_cny * weight.weight', digits=18) }} as net_creation_cny
from by_set
inner join {{ ref('stg_index__weight') }} as weight
    on
        by_set.index_code = weight.index_code
        and by_set.as_of_date = weight.as_of_date
        and by_set.segment_start >= weight.known_date
group by all
