select
    etf_code,
    ex_date,
    new_per_old,
    case when is_inferred then 'inferred' else 'listed' end as status,
    evidence,
    {{ text_var('source_label') }} as source
from {{ ref('int_etf__split_event') }}
