-- a set of weights is cut wherever a constituent changes industry while the set is in use
with changes as (

    select weight_set.index_code, weight_set.as_of_date, membership.in_date as segment_start
    from {{ ref('int_index__weight_set') }} as weight_set
    inner join {{ ref('stg_index__weight') }} as weight using (index_code, as_of_date)
    inner join {{ ref('stg_industry__membership') }} as membership
        on
            weight.stock_code = membership.stock_code
            and membership.in_date > weight_set.valid_from
            and membership.in_date < weight_set.valid_to

    union

    select weight_set.index_code, weight_set.as_of_date, membership.out_date as segment_start
    from {{ ref('int_index__weight_set') }} as weight_set
    inner join {{ ref('stg_index__weight') }} as weight using (index_code, as_of_date)
    inner join {{ ref('stg_industry__membership') }} as membership
        on
            weight.stock_code = membership.stock_code
            and membership.out_date > weight_set.valid_from
            and membership.out_date < weight_set.valid_to

    union

    select index_code, as_of_date, valid_from as segment_start
    from {{ ref('int_index__weight_set') }}

)

select index_code, as_of_date, segment_start
from changes
