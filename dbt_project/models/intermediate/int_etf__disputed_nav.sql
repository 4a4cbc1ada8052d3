{{ config(materialized='incremental', unique_key='trade_date') }}

-- a NAV that the close of its own session contradicts: one of the two is wrong, and nothing is computed from either
with limits as (

    select *
    from (values {% for scope, ratio in var('premium_limits').items() %}({{ dbt.string_literal(scope) }}, {{ ratio }}){{ ', ' if not loop.last }}{% endfor %})
        as known (asset_scope, premium_limit)

),

priced as (

    select
        price.etf_code,
        price.trade_date,
        price.unit_nav,
        price.close,
        limits.premium_limit,
        -- the NAV takes a split with the shares, the traded price on its ex-date
        price.close * coalesce(at_close.cumulative_factor, 1)
        / (price.unit_nav * coalesce(at_nav.cumulative_factor, 1)) - 1 as premium_ratio
    from {{ ref('int_etf__price') }} as price
    inner join {{ ref('stg_etf__info') }} as info using (etf_code)
    inner join limits using (asset_scope)
    {{ join_splits('at_close', 'ex_date', 'price', 'price.trade_date') }}
    {{ join_splits('at_nav', 'share_date', 'price', 'price.trade_date') }}
    where
        price.unit_nav is not null
        -- a close that comes after the NAV contradicts nothing that was decided with it
        and price.market_known_date <= price.nav_known_date
        and price.close is not null
        and {{ since('price.trade_date') }}

)

select etf_code, trade_date, unit_nav, close, premium_ratio
from priced
where abs(premium_ratio) > premium_limit
