{{ config(severity='warn', meta={'dagster': {'ref': {'name': 'int_etf__held_value'}}}) }}

with stepped as (

    select
        etf_code,
        trade_date,
        held_value_cny,
        lag(held_value_cny) over etf as previous_value_cny,
        lag(trade_date) over etf as previous_date,
        session_number - lag(session_number) over etf as sessions
    from {{ ref('int_etf__held_value') }}
    inner join {{ ref('stg_calendar__session') }} using (trade_date)
    where etf_code in (select etf_code from {{ ref('int_etf__split_event') }})
    window etf as (partition by etf_code order by trade_date)

)

-- exchanges may count new shares a session before the price follows: within a week of the split that is not a flow
select stepped.*, event.ex_date, event.new_per_old
from stepped
inner join {{ ref('int_etf__split_event') }} as event
    on
        stepped.etf_code = event.etf_code
        and abs(stepped.trade_date - event.ex_date) <= 7
where
    greatest(held_value_cny / previous_value_cny, previous_value_cny / held_value_cny)
    >= {{ var('split_suspect_ratio') }}
    -- after a longer gap the value says nothing about the split
    and sessions <= {{ var('share_value_age_limit_sessions') }}
