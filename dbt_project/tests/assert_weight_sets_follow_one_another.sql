{{ config(meta={'dagster': {'ref': {'name': 'int_index__segment'}}}) }}

with overlapping as (

    select index_code, as_of_date, valid_from as day
    from {{ ref('int_index__weight_set') }}
    qualify
        valid_from >= valid_to
        or valid_to > lead(valid_from, 1, valid_to) over (partition by index_code order by valid_from)
        or as_of_date <= lag(as_of_date) over (partition by index_code order by valid_from)

),

outside as (

    select segment.index_code, segment.as_of_date, segment.segment_start as day
    from {{ ref('int_index__segment') }} as segment
    left join {{ ref('int_index__weight_set') }} as weight_set
        on
            segment.index_code = weight_set.index_code
            and segment.as_of_date = weight_set.as_of_date
            and segment.segment_start >= weight_set.valid_from
            and segment.segment_start < weight_set.valid_to
    where weight_set.index_code is null

)

select * from overlapping
union all
select * from outside
