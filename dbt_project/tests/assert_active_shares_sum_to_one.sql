select week_end, sum(active_share_ratio) as total
from {{ ref('active_fund_industry') }}
group by all
having abs(total - 1) > {{ var('conservation_tolerance') }}
