select etf_code, ex_date, cash_per_share
from {{ source('raw', 'etf_dividend') }}
