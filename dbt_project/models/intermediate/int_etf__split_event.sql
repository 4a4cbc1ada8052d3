-- listed splits, and steps of the price that no daily limit allows and a whole number explains
with priced as (

    select
        price.etf_code,
        price.trade_date,
        session.session_number,
        price.unit_nav,
        price.close,
        price.adjusted_close,
        price.vwap
    from {{ ref('int_etf__price') }} as price
    inner join {{ ref('stg_calendar__session') }} as session using (trade_date)

),

stepped as (

    select
        etf_code,
        trade_date,
        lag(trade_date) over etf as previous_date,
        session_number - lag(session_number) over etf as sessions,
        -- raw over adjusted price is free of the market's own move
        coalesce(
            (lag(close) over etf / lag(adjusted_close) over etf) / (close / adjusted_close),
            (lag(vwap) over etf / lag(adjusted_close) over etf) / (vwap / adjusted_close)
        ) as adjusted_step,
        coalesce(
            lag(unit_nav) over etf / unit_nav, lag(close) over etf / close, lag(vwap) over etf / vwap
        ) as plain_step
    from priced
    window etf as (partition by etf_code order by trade_date)

),

judged as (

    select
        etf_code,
        trade_date,
        previous_date,
        coalesce(adjusted_step, plain_step) as step,
        case
            when adjusted_step is null then pow(1 + {{ var('split_price_jump') }}, sessions)
            else 1 + {{ var('split_price_jump') }}
        end as limit_step
    from stepped

),

inferred as (

    select
        etf_code,
        previous_date,
        trade_date as ex_date,
        case when step > 1 then round(step) else 1 / round(1 / step) end as new_per_old
    from judged
    where
        (step > limit_step or step < 1 / limit_step)
        and abs(step / case when step > 1 then round(step) else 1 / round(1 / step) end - 1)
        <= {{ var('split_integer_tolerance') }}

),

events as (

    select etf_code, ex_date, new_per_old, false as is_inferred
    from {{ ref('stg_etf__split') }}

    union all

    select etf_code, ex_date, new_per_old, true as is_inferred
    from inferred
    where
        new_per_old <> 1
        and not exists (
            select 1
            from {{ ref('stg_etf__split') }} as listed
            where
                listed.etf_code = inferred.etf_code
                and listed.ex_date > inferred.previous_date
                and listed.ex_date <= inferred.ex_date
        )

)

select
    *,
    product(new_per_old) over (partition by etf_code order by ex_date) as cumulative_factor
from events
