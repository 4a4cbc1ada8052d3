select
    trade_date,
    coalesce(asset_scope, 'unknown') as asset_scope,
    cast(count(shares) as integer) as etfs,
    cast(count(net_creation_cny) as integer) as etfs_with_flow,
    cast(count(*) filter (where split_status = 'suspected') as integer) as suspected_splits,
    cast(count(*) filter (where is_nav_disputed) as integer) as disputed_navs,
    cast(count(*) filter (where nav_date < trade_date) as integer) as carried_navs,
    {{ exact_sum('aum_cny') }} as aum_cny,
    {{ exact_sum('net_creation_cny') }} as net_creation_cny,
    {{ exact_sum('net_subscription_cny') }} as net_subscription_cny,
    any_value(source) as source
from {{ ref('etf_flow') }}
where shares is not null
group by trade_date, coalesce(asset_scope, 'unknown')
