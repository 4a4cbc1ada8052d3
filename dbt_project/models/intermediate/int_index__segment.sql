{{ config(materialized='incremental', unique_key='segment_start') }}

-- a set of weights is cut wherever a constituent changes industry while the set is in use
select weight_set.index_code, weight_set.as_of_date, membership.changed_on as segment_start
from {{ ref('int_index__weight_set') }} as weight_set
inner join {{ ref('stg_index__weight') }} as weight using (index_code, as_of_date)
inner join {{ membership_changes() }} as membership
    on
        weight.stock_code = membership.stock_code
        and membership.changed_on > weight_set.valid_from
        and membership.changed_on < weight_set.valid_to
where {{ since('membership.changed_on') }}

union

select index_code, as_of_date, valid_from as segment_start
from {{ ref('int_index__weight_set') }}
where {{ since('valid_from') }}
