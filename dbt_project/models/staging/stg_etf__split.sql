select etf_code, ex_date, new_per_old
from {{ source('raw', 'etf_split') }}
