select week_end, report_date, public_date
from {{ ref('active_fund_industry') }}
where
    public_date > week_end
    or report_date >= public_date
    or week_end >= public_date + interval {{ var('disclosed_months') }} month
