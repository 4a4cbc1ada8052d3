{{ config(materialized='incremental', unique_key='trade_date') }}

with flows as (

    select
        etf_code,
        trade_date,
        net_creation_cny,
        interval_net_creation_cny as week_net_creation_cny,
        -- the flow over a gap belongs to the week it ends in
        case when flow.previous_date < previous_week.previous_week_end then interval_net_creation_cny end
        as gap_net_creation_cny
    from {{ ref('int_etf__flow') }} as flow
    inner join {{ ref('stg_calendar__week') }} as previous_week using (week_end)
    -- what is known only later is not part of the day
    where flow.flow_known_date = flow.trade_date and {{ since('flow.trade_date') }}

),

by_index as (

    select
        held.trade_date,
        held.week_end,
        held.index_code,
        held.theme_industry_code,
        held.is_enhanced,
        {{ exact_sum('held.held_value_cny') }} as held_value_cny,
        {{ exact_sum('flows.net_creation_cny') }} as net_creation_cny,
        {{ exact_sum('flows.week_net_creation_cny') }} as week_net_creation_cny,
        {{ exact_sum('flows.gap_net_creation_cny') }} as gap_net_creation_cny,
        count(week_flow.etf_code) as etfs_with_flow,
        {{ exact_sum('case when week_flow.etf_code is not null then held.held_value_cny end') }} as value_with_flow_cny
    from {{ ref('int_etf__held_value') }} as held
    left join flows using (etf_code, trade_date)
    left join {{ ref('int_etf__week_flow') }} as week_flow
        on held.etf_code = week_flow.etf_code and held.week_end = week_flow.week_end and held.trade_date = held.week_end
    where {{ since('held.trade_date') }}
    group by all

),

weighted as (

    select by_index.*, segment.as_of_date, segment.segment_start
    from by_index
    asof left join {{ ref('int_index__segment') }} as segment
        on by_index.index_code = segment.index_code and by_index.trade_date >= segment.segment_start

)

select
    *,
    case
        when is_enhanced then 'enhanced'
        when as_of_date is not null then 'weights'
        when theme_industry_code is not null then 'theme'
        else 'no weights'
    end as look_through,
    coalesce(trade_date - as_of_date > {{ var('stale_weights_days') }}, false) as is_stale
from weighted
