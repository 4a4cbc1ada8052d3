{{ config(meta={'dagster': {'ref': {'name': 'int_index__daily'}}}) }}

select daily.trade_date, daily.index_code, daily.as_of_date, weights.known_date
from {{ ref('int_index__daily') }} as daily
left join (
    select index_code, as_of_date, max(known_date) as known_date
    from {{ ref('stg_index__weight') }}
    group by all
) as weights using (index_code, as_of_date)
where {{ untested('daily.trade_date') }} and daily.look_through = 'weights' and coalesce(weights.known_date > daily.trade_date, true)
