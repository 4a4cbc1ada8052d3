{{ config(materialized='incremental', unique_key='trade_date') }}

-- zero shares are a hole in the file, not a redemption of everything; shares that came after newer ones were known
-- are no step of the chain, so that the flow of a day never depends on what came later
with shares as (

    {{ newest_known(
        "(select * from " ~ ref('stg_etf__share') ~ " as day where shares > 0 and " ~ since_last(this, 'day') ~ ")",
        'etf_code', 'trade_date'
    ) }}

),

observed as (

    select
        share.etf_code,
        share.trade_date,
        share.known_date,
        session.session_number,
        session.next_trade_date,
        session.week_end,
        share.shares,
        price.unit_nav,
        price.nav_known_date,
        price.close,
        price.market_price
    from shares as share
    inner join {{ ref('stg_calendar__session') }} as session using (trade_date)
    left join {{ ref('int_etf__price') }} as price using (etf_code, trade_date)

),

paired as (

    select
        *,
        lag(trade_date) over etf as previous_date,
        session_number - lag(session_number) over etf as interval_sessions,
        lag(shares) over etf as previous_shares,
        lag(unit_nav) over etf as previous_unit_nav,
        lag(close) over etf as previous_close,
        shares / lag(shares) over etf as share_ratio,
        -- a NAV that comes late tells nothing on the day
        coalesce(nav_known_date <= trade_date and lag(nav_known_date) over etf <= trade_date, false) as has_nav_pair,
        lag(market_price) over etf / market_price is not null as has_market_pair
    from observed
    window etf as (partition by etf_code order by trade_date)

),

judged as (

    select
        *,
        coalesce(
            greatest(share_ratio, 1 / share_ratio) >= {{ var('split_suspect_ratio') }}
            and interval_sessions <= {{ var('flow_interval_limit_sessions') }},
            false
        ) as is_jump
    from paired

)

select
    * exclude (known_date),
    -- shares take a split one session before the traded price: without NAVs, the next session has to tell
    case
        when is_jump and not has_nav_pair then greatest(known_date, coalesce(next_trade_date, known_date + 1))
        else known_date
    end as known_date
from judged
where {{ since('trade_date') }}
