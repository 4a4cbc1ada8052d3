{{ config(severity='warn') }}

select etf_code, trade_date, shares, previous_observation_date, split_factor
from {{ ref('etf_flow') }}
where split_status = 'suspected' and in_universe
