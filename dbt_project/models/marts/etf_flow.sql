{{ config(materialized='incremental', unique_key='trade_date') }}

with days as (

    select etf_code, trade_date, nullif(share.shares, 0) as shares, price.unit_nav, price.close
    from (select * from {{ ref('stg_etf__share') }} where {{ since('trade_date') }}) as share
    full outer join (select * from {{ ref('int_etf__price') }} where {{ since('trade_date') }}) as price using (etf_code, trade_date)

),

-- why a day of an ETF is outside the universe; empty where it is inside
placed as (

    select
        days.*,
        info.asset_scope,
        case
            when info.etf_code is null then 'not in etf_info'
            when info.universe_exclusion is not null then info.universe_exclusion
            when days.trade_date < info.list_date then 'not listed yet'
            when days.trade_date >= info.delist_date then 'delisted'
        end as universe_exclusion
    from days
    left join {{ ref('stg_etf__info') }} as info using (etf_code)

),

navs as (

    select price.etf_code, price.trade_date as nav_date, price.unit_nav, session.session_number
    from {{ ref('int_etf__price') }} as price
    inner join {{ ref('stg_calendar__session') }} as session using (trade_date)
    where
        price.unit_nav is not null
        and {{ since_in_use('price.trade_date') }}
        and (price.etf_code, price.trade_date) not in (
            select (etf_code, trade_date) from {{ ref('int_etf__disputed_nav') }}
        )

),

-- the size of a session whose NAV is not there, or not believed, is that of the last one
sized as (

    select days.etf_code, days.trade_date, navs.nav_date, navs.unit_nav
    from days
    inner join {{ ref('stg_calendar__session') }} as session using (trade_date)
    asof inner join navs on days.etf_code = navs.etf_code and days.trade_date >= navs.nav_date
    where
        days.shares is not null
        and session.session_number - navs.session_number <= {{ var('nav_carry_sessions') }}

),

dividends as (

    select etf_code, ex_date as trade_date, sum(cash_per_share) as cash_per_share
    from {{ ref('stg_etf__dividend') }}
    group by all

)

select
    placed.etf_code,
    placed.trade_date,
    placed.asset_scope,
    placed.shares,
    placed.unit_nav,
    placed.close,
    -- shares in doubt make no size; a split between the NAV and the shares is in one of them only
    case when not coalesce(flow.is_doubted, false) then placed.shares end
    * sized.unit_nav * coalesce(at_nav.cumulative_factor, 1) / coalesce(at_share.cumulative_factor, 1) as aum_cny,
    sized.nav_date,
    disputed.trade_date is not null as is_nav_disputed,
    case when not coalesce(flow.is_doubted, false) then placed.shares end * placed.close as circulating_value_cny,
    flow.net_creation_cny,
    flow.net_subscription_cny,
    flow.previous_date as previous_observation_date,
    cast(flow.interval_sessions as integer) as interval_sessions,
    flow.interval_net_creation_cny,
    flow.previous_shares * dividends.cash_per_share as dividend_cny,
    flow.split_factor,
    flow.split_status,
    event.ex_date is not null as is_split_day,
    placed.universe_exclusion is null as in_universe,
    placed.universe_exclusion,
    coalesce(held_factor.cumulative_factor, 1) as cumulative_split_factor,
    {{ text_var('source_label') }} as source
from placed
left join {{ ref('int_etf__flow') }} as flow using (etf_code, trade_date)
left join sized using (etf_code, trade_date)
left join {{ ref('int_etf__disputed_nav') }} as disputed using (etf_code, trade_date)
left join dividends using (etf_code, trade_date)
left join {{ ref('int_etf__split_event') }} as event
    on placed.etf_code = event.etf_code and placed.trade_date = event.share_date
{{ join_splits('held_factor', 'ex_date', 'placed', 'placed.trade_date') }}
{{ join_splits('at_share', 'share_date', 'placed', 'placed.trade_date') }}
{{ join_splits('at_nav', 'share_date', 'placed', 'sized.nav_date') }}
