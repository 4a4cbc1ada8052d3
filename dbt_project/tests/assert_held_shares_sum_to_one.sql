select trade_date, sum(held_share_ratio) as total
from {{ ref('industry_daily') }}
group by all
having abs(total - 1) > {{ var('conservation_tolerance') }}
