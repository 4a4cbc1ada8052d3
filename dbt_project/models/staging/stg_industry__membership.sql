select stock_code, industry_code, in_date, coalesce(out_date, date '9999-12-31') as out_date
from {{ source('raw', 'stock_industry') }}
where scheme = {{ text_var('scheme') }}
