select fund_code, found_date, issue_shares, coalesce(is_active_equity, false) as is_active_equity
from {{ source('raw', 'fund_info') }}
