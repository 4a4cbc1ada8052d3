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
        {{ 'day.adjusted_close' if kind == 'market' else 'null' }} as adjusted_price
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
        session.session_number - lag(session.session_number) over series as sessions,
        lag(quotes.price) over series / quotes.price as plain_step,
        -- raw over adjusted price is free of the market's own move
        plain_step * quotes.adjusted_price / lag(quotes.adjusted_price) over series as adjusted_step
    from quotes
    inner join {{ ref('stg_calendar__session') }} as session using (trade_date)
    window series as (partition by quotes.etf_code, quotes.kind order by quotes.trade_date)

),

judged as (

    select
        *,
        coalesce(adjusted_step, plain_step) as step,
        case when step > 1 then round(step) else 1 / round(1 / step) end as whole_step,
        case
            when adjusted_step is null then pow(1 + {{ var('split_price_jump') }}, sessions)
            else 1 + {{ var('split_price_jump') }}
        end as limit_step
    from stepped

)

select etf_code, kind, previous_date, trade_date, step, whole_step as new_per_old
from judged
where
    (step > limit_step or step < 1 / limit_step)
    and whole_step <> 1
    and abs(step / whole_step - 1) <= {{ var('split_integer_tolerance') }}
    and {{ since('trade_date') }}
