{{ config(materialized='incremental', unique_key='trade_date') }}

{%- set quoted = {'nav': 'unit_nav', 'market': 'market_price'} %}

with quotes as (

    {% for kind, price in quoted.items() -%}
    {% set days = "(select * from " ~ ref('int_etf__price') ~ " where " ~ price ~ " is not null)" -%}
    select
        day.etf_code,
        day.trade_date,
        '{{ kind }}' as kind,
        day.{{ price }} as price,
        {{ 'day.adjusted_close' if kind == 'market' else 'null' }} as adjusted_price,
        {{ 'day.close is not null' if kind == 'market' else 'false' }} as is_close
    from {{ days }} as day
    where {{ since_last(days, 'day') }}
    {% if not loop.last %}
    union all

    {% endif %}
    {%- endfor %}
),

stepped as (

    select
        quotes.etf_code,
        quotes.kind,
        quotes.trade_date,
        lag(quotes.trade_date) over series as previous_date,
        lag(quotes.price) over series as previous_price,
        previous_price / quotes.price as plain_step,
        -- raw over adjusted price is free of the market's own move
        plain_step * quotes.adjusted_price / lag(quotes.adjusted_price) over series as adjusted_step,
        quotes.is_close and lag(quotes.is_close) over series as is_close,
        pow(
            1 + {{ var('split_price_jump') }},
            session.session_number - lag(session.session_number) over series
        ) as limit_step
    from quotes
    inner join {{ ref('stg_calendar__session') }} as session using (trade_date)
    window series as (partition by quotes.etf_code, quotes.kind order by quotes.trade_date)

),

-- adjusted closes that moved as no daily limit allows were adjusted wrongly and prove nothing
judged as (

    select
        *,
        adjusted_step is not null
        and plain_step / adjusted_step between 1 / limit_step and limit_step as is_adjusted,
        case when is_adjusted then adjusted_step else plain_step end as step,
        case when step > 1 then round(step) else 1 / round(1 / step) end as whole_step,
        case
            when not is_adjusted then limit_step
            -- an average price beside an adjusted close moves by the day's own range
            when not is_close then 1 + {{ var('split_price_jump') }}
            else 1 + {{ var('split_minimum_step') }}
        end as smallest_step,
        whole_step <> 1
        and abs(step / whole_step - 1) <= case
            when is_adjusted and is_close then {{ var('split_adjusted_tolerance') }}
            else {{ var('split_integer_tolerance') }}
        end as is_whole
    from stepped

)

select
    etf_code,
    kind,
    previous_date,
    trade_date,
    previous_price,
    step,
    is_adjusted and is_close as is_exact,
    case when is_whole then whole_step when is_adjusted and is_close then step end as new_per_old
from judged
where
    (step > smallest_step or step < 1 / smallest_step)
    and {{ since('trade_date') }}
