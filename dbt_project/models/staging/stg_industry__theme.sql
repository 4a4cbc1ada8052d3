select theme, industry_code
from {{ source('raw', 'theme_industry') }}
where scheme = {{ text_var('scheme') }}
