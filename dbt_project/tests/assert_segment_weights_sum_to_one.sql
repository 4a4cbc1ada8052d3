select index_code, segment_start, sum(weight) as total
from {{ ref('int_index__industry_weight') }}
group by all
having abs(total - 1) > {{ var('conservation_tolerance') }}
