with valued as (

    select week_end, basis, {{ exact_sum('held_value_cny') }} as value_cny
    from {{ ref('int_industry__look_through') }}
    where trade_date = week_end
    group by all

)

select
    week_end,
    basis,
    value_cny,
    value_cny / {{ exact_sum('value_cny', "over (partition by week_end)") }} as ratio,
    {{ text_var('source_label') }} as source
from valued
