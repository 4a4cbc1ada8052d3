{{ config(meta={'dagster': {'ref': {'name': 'int_industry__float_value'}}}) }}

select used.segment_start, used.value_date, max(value.known_date) as known_date
from (select distinct segment_start, value_date from {{ ref('int_industry__float_value') }}) as used
inner join {{ ref('stg_stock__value') }} as value on used.value_date = value.trade_date
group by all
having max(value.known_date) > used.segment_start
