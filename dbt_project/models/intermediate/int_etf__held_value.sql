{{ config(materialized='incremental', unique_key='trade_date') }}

with universe as (

    select
        info.etf_code,
        info.index_code,
        theme.industry_code as theme_industry_code,
        info.is_enhanced,
        coalesce(info.list_date, date '1990-01-01') as list_date,
        coalesce(info.delist_date, date '9999-12-31') as delist_date
    from {{ ref('stg_etf__info') }} as info
    left join {{ ref('stg_industry__theme') }} as theme using (theme)
    where info.asset_scope = 'aShareStockEtf'

),

-- a NAV and a close that contradict each other: neither is used
price as (

    select *
    from {{ ref('int_etf__price') }}
    where
        {{ since_in_use('trade_date') }}
        and (etf_code, trade_date) not in (select (etf_code, trade_date) from {{ ref('int_etf__disputed_nav') }})

),

shares as (

    {{ newest_known(
        "(select * from " ~ ref('int_etf__flow') ~ " where not is_doubted and " ~ since_in_use('trade_date') ~ ")",
        'etf_code', 'trade_date'
    ) }}

),

navs as (

    {{ newest_known(
        '(select *, nav_known_date as known_date from price where unit_nav is not null)',
        'etf_code', 'trade_date'
    ) }}

),

trades as (

    {{ newest_known(
        '(select *, market_known_date as known_date from price where market_price is not null)',
        'etf_code', 'trade_date'
    ) }}

),

grid as (

    -- only the keys: as-of joins sort whatever they carry
    select universe.etf_code, session.trade_date
    from universe
    inner join (select etf_code, min(trade_date) as first_date from shares group by all) as span using (etf_code)
    inner join (
        -- the calendar begins decades before
        select trade_date
        from {{ ref('stg_calendar__session') }}
        where trade_date >= (select min(trade_date) from shares)
    ) as session
        on
            session.trade_date >= greatest(span.first_date, universe.list_date)
            and session.trade_date < universe.delist_date
            and session.trade_date <= (select max(trade_date) from {{ ref('stg_etf__share') }})
    where {{ since('session.trade_date') }}

),

with_shares as (

    select grid.*, shares.shares, shares.trade_date as share_date
    from grid
    asof join shares on grid.etf_code = shares.etf_code and grid.trade_date >= shares.known_date

),

-- the newer of NAV and traded price, the NAV where both are of one day
with_price as (

    select
        with_shares.*,
        coalesce(navs.trade_date >= trades.trade_date, navs.trade_date is not null) as is_nav,
        case when is_nav then navs.unit_nav else trades.market_price end as price,
        case when is_nav then navs.trade_date else trades.trade_date end as price_date
    from with_shares
    asof left join navs
        on with_shares.etf_code = navs.etf_code and with_shares.trade_date >= navs.known_date
    asof left join trades
        on with_shares.etf_code = trades.etf_code and with_shares.trade_date >= trades.known_date

),

with_split as (

    select
        with_price.*,
        coalesce(at_share.cumulative_factor, 1) as share_factor,
        -- the NAV takes a split with the shares, the traded price on its ex-date
        coalesce(case when with_price.is_nav then at_nav.cumulative_factor else at_trade.cumulative_factor end, 1)
        as price_factor
    from with_price
    {{ join_splits('at_share', 'share_date', 'with_price', 'with_price.share_date') }}
    {{ join_splits('at_nav', 'share_date', 'with_price', 'with_price.price_date') }}
    {{ join_splits('at_trade', 'ex_date', 'with_price', 'with_price.price_date') }}

)

select
    valued.etf_code,
    universe.index_code,
    universe.theme_industry_code,
    universe.is_enhanced,
    valued.trade_date,
    session.week_end,
    valued.share_date,
    valued.price_date,
    valued.is_nav,
    -- shares seen before a split and a price seen after it (or the reverse) are brought to one basis
    valued.shares * valued.price * valued.price_factor / valued.share_factor as held_value_cny
from with_split as valued
inner join universe using (etf_code)
inner join {{ ref('stg_calendar__session') }} as session on valued.trade_date = session.trade_date
inner join {{ ref('stg_calendar__session') }} as share_session on valued.share_date = share_session.trade_date
inner join {{ ref('stg_calendar__session') }} as price_session on valued.price_date = price_session.trade_date
where
    session.session_number - share_session.session_number <= {{ var('share_value_age_limit_sessions') }}
    and session.session_number - price_session.session_number <= {{ var('share_value_age_limit_sessions') }}
