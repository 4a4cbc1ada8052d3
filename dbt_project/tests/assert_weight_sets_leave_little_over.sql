{{ config(severity='warn') }}

select index_code, as_of_date, segment_start, weight
from {{ ref('int_index__industry_weight') }}
where basis = 'weight remainder' and abs(weight) > 0.01
