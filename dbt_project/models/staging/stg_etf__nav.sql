{{ config(materialized='incremental', unique_key='trade_date') }}

with known as (

    {{ with_known_date(source('raw', 'etf_nav'), 'trade_date') }}

)

select known.*
from known
-- a half-year end that is no session would stand before the NAV of the last session
inner join {{ ref('stg_calendar__session') }} using (trade_date)
where unit_nav is not null
