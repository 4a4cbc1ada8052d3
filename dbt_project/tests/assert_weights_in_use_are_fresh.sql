{{ config(severity='warn') }}

select trade_date, count(*) as indices
from {{ ref('int_index__daily') }}
where look_through = 'weights' and is_stale
group by all
