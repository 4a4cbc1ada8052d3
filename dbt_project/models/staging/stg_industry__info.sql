select industry_code, industry_name
from {{ source('raw', 'industry_info') }}
where scheme = {{ text_var('scheme') }}
