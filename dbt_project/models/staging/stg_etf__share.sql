{{ with_known_date(source('raw', 'etf_share')) }}
