select week_end, sum(ratio) as total
from {{ ref('look_through_coverage') }}
group by all
having abs(total - 1) > {{ var('conservation_tolerance') }}
