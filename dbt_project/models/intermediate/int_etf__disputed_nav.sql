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
    left join {{ splits_since('ex_date') }} as at_close
        on
            price.etf_code = at_close.etf_code
            and price.trade_date >= at_close.since
            and price.trade_date < at_close.until
    left join {{ splits_since('share_date') }} as at_nav
        on
            price.etf_code = at_nav.etf_code
            and price.trade_date >= at_nav.since
            and price.trade_date < at_nav.until
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
