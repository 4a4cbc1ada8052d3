{{ config(materialized='incremental', unique_key='segment_start') }}

-- a set of weights is cut wherever a constituent changes industry, or becomes known, while the set is in use
with change as (

    select weight.index_code, weight.as_of_date, membership.changed_on
    from {{ ref('stg_index__weight') }} as weight
    inner join {{ membership_changes() }} as membership using (stock_code)
    where {{ since('membership.changed_on') }}

    union

    select index_code, as_of_date, known_date as changed_on
    from {{ ref('stg_index__weight') }}
    where {{ since('known_date') }}

)

select weight_set.index_code, weight_set.as_of_date, change.changed_on as segment_start
from {{ ref('int_index__weight_set') }} as weight_set
inner join change
    on
        weight_set.index_code = change.index_code
        and weight_set.as_of_date = change.as_of_date
        and change.changed_on > weight_set.valid_from
        and change.changed_on < weight_set.valid_to

union

select index_code, as_of_date, valid_from as segment_start
from {{ ref('int_index__weight_set') }}
where {{ since('valid_from') }}
