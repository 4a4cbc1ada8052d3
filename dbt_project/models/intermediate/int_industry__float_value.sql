-- Float value of an industry: of each of its stocks the newest value known. It changes with values that become known,
-- and when a stock changes industry. Sums of decimals are exact, so that adding and taking away keeps them so.
with sets as (

    select trade_date, min(known_date) as known_date
    from {{ ref('stg_stock__value') }}
    group by all

),

-- a value that is late is bridged by the one of the set before; the one two sets later ends it
ends as (

    select
        trade_date,
        coalesce(
            min(known_date) over (order by trade_date rows between 2 following and unbounded following),
            date '9999-12-31'
        ) as ended_on
    from sets

),

periods as (

    select
        value.stock_code,
        value.float_market_value_cny,
        value.known_date as valid_from,
        least(
            ends.ended_on,
            lead(value.known_date, 1, date '9999-12-31') over (partition by value.stock_code order by value.known_date)
        ) as valid_to
    from (

        {{ newest_known(ref('stg_stock__value'), 'stock_code', 'trade_date') }}

    ) as value
    inner join ends using (trade_date)

),

stays as (

    select
        membership.industry_code,
        periods.float_market_value_cny,
        greatest(periods.valid_from, membership.in_date) as since,
        least(periods.valid_to, membership.out_date) as until
    from periods
    inner join {{ ref('stg_industry__membership') }} as membership
        on
            periods.stock_code = membership.stock_code
            and periods.valid_from < membership.out_date
            and periods.valid_to > membership.in_date

),

changes as (

    select industry_code, since as segment_start, 1 as stocks, float_market_value_cny
    from stays

    union all

    select industry_code, until as segment_start, -1 as stocks, -float_market_value_cny as float_market_value_cny
    from stays
    where until < date '9999-12-31'

),

by_day as (

    select
        industry_code,
        segment_start,
        sum(stocks) as stocks,
        {{ decimal_sum('float_market_value_cny') }} as float_market_value_cny
    from changes
    group by all

)

-- an industry left without any valued stock has an empty row, so that its value of before does not live on
select
    segment_start,
    industry_code,
    case when sum(stocks) over so_far > 0 then cast(sum(float_market_value_cny) over so_far as double) end
    as float_market_value_cny
from by_day
window so_far as (partition by industry_code order by segment_start)
