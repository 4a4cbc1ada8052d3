{{ config(meta={'dagster': {'ref': {'name': 'int_index__daily'}}}) }}

with sets as (

    select index_code, as_of_date, max(known_date) as known_date
    from {{ ref('stg_index__weight') }}
    group by all

)

select daily.trade_date, daily.index_code, daily.as_of_date, max(sets.as_of_date) as newest_known
from {{ ref('int_index__daily') }} as daily
inner join sets on daily.index_code = sets.index_code and sets.known_date <= daily.trade_date
where {{ untested('daily.trade_date') }}
group by all
having newest_known is distinct from daily.as_of_date
