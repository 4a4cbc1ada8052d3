{{ config(materialized='incremental', unique_key='trade_date') }}

with split_in_interval as (

    select
        observation.etf_code,
        observation.trade_date,
        product(event.new_per_old order by event.share_date) as split_factor,
        bool_or(event.is_inferred) as is_inferred
    from {{ ref('int_etf__observation') }} as observation
    inner join {{ ref('int_etf__split_event') }} as event
        on
            observation.etf_code = event.etf_code
            and observation.previous_date < event.share_date
            and observation.trade_date >= event.share_date
    group by all

),

-- a step of the price that no daily limit allows, and that neither a whole number nor the shares explain
unexplained as (

    select distinct observation.etf_code, observation.trade_date
    from {{ ref('int_etf__observation') }} as observation
    inner join {{ ref('int_etf__price_step') }} as step
        on
            observation.etf_code = step.etf_code
            and observation.previous_date < step.trade_date
            and observation.trade_date >= step.trade_date
    left join {{ ref('int_etf__split_event') }} as event
        on
            step.etf_code = event.etf_code
            and event.ex_date > step.previous_date
            and event.share_date <= step.trade_date
    where step.new_per_old is null and event.etf_code is null

),

measured as (

    select
        observation.*,
        coalesce(split.split_factor, 1) as split_factor,
        split.is_inferred,
        -- a split the shares did not follow, or more than any creation makes of them: a file is wrong or late
        coalesce(
            abs(ln(observation.share_ratio / split.split_factor)) >= abs(ln(observation.share_ratio)), false
        )
        or coalesce(
            observation.interval_sessions <= {{ var('flow_interval_limit_sessions') }}
            and abs(ln(observation.share_ratio / coalesce(split.split_factor, 1))) >= ln({{ var('share_limit_ratio') }}),
            false
        ) as is_doubted,
        unexplained.trade_date is not null as is_unexplained,
        disputed.trade_date is not null as is_nav_disputed,
        previously_disputed.trade_date is not null as is_previous_nav_disputed
    from {{ ref('int_etf__observation') }} as observation
    left join split_in_interval as split using (etf_code, trade_date)
    left join unexplained using (etf_code, trade_date)
    left join {{ ref('int_etf__disputed_nav') }} as disputed using (etf_code, trade_date)
    left join {{ ref('int_etf__disputed_nav') }} as previously_disputed
        on
            observation.etf_code = previously_disputed.etf_code
            and observation.previous_date = previously_disputed.trade_date
    where {{ since_last(ref('int_etf__observation'), 'observation') }}

),

judged as (

    select
        *,
        case
            when is_doubted or is_unexplained then 'suspected'
            when is_inferred then 'inferred'
            when not is_inferred then 'listed'
            when is_jump and not has_nav_pair and not has_market_pair then 'suspected'
            -- the session that would show the step of the price is still to come
            when
                is_jump and not has_nav_pair
                and trade_date = (select max(trade_date) from {{ ref('stg_etf__share') }})
                then 'suspected'
            else 'none'
        end as own_status
    from measured

),

settled as (

    select
        judged.* exclude (own_status, is_unexplained),
        -- shares that follow a split one file late
        case
            when judged.own_status = 'none' and judged.is_jump and suspected.trade_date is not null then 'suspected'
            else judged.own_status
        end as split_status
    from judged
    left join (select etf_code, trade_date from judged where own_status = 'suspected') as suspected
        on judged.etf_code = suspected.etf_code and judged.previous_date = suspected.trade_date

)

select
    * exclude (is_nav_disputed, is_previous_nav_disputed),
    greatest(known_date, nav_known_date) as flow_known_date,
    case
        when
            split_status <> 'suspected'
            and not is_nav_disputed
            and interval_sessions <= {{ var('flow_interval_limit_sessions') }}
            then (shares - previous_shares * split_factor) * unit_nav
    end as interval_net_creation_cny,
    case when interval_sessions = 1 then interval_net_creation_cny end as net_creation_cny,
    -- the published form mixes NAV and price; only the split is taken out of the raw close
    case
        when
            split_status <> 'suspected'
            and not is_nav_disputed
            and not is_previous_nav_disputed
            and interval_sessions = 1
            then shares * unit_nav - previous_shares * previous_unit_nav * (close * split_factor / previous_close)
    end as net_subscription_cny
from settled
where {{ since('trade_date') }}
