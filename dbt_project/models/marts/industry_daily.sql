with looked_through as (

    select
        trade_date,
        week_end,
        industry_code,
        {{ exact_sum('held_value_cny') }} as held_value_cny,
        {{ exact_sum('net_creation_cny') }} as net_creation_cny,
        {{ exact_sum('week_net_creation_cny') }} as week_net_creation_cny
    from {{ ref('int_industry__look_through') }}
    where industry_code is not null
    group by all

),

industries as (

    select info.industry_code, info.industry_name, min(in_date) as first_date, max(out_date) as end_date
    from {{ ref('stg_industry__info') }} as info
    left join {{ ref('stg_industry__membership') }} as membership using (industry_code)
    group by all

),

-- an industry no looked-through ETF holds has a value of zero, one that does not exist yet has no row
complete as (

    select
        days.trade_date,
        days.week_end,
        industries.industry_code,
        industries.industry_name,
        coalesce(looked_through.held_value_cny, 0) as held_value_cny,
        case
            when count(looked_through.net_creation_cny) over (partition by days.trade_date) > 0
                then coalesce(looked_through.net_creation_cny, 0)
        end as net_creation_cny,
        case
            when count(looked_through.week_net_creation_cny) over (partition by days.trade_date) > 0
                then coalesce(looked_through.week_net_creation_cny, 0)
        end as week_net_creation_cny
    from (select distinct trade_date, week_end from looked_through) as days
    cross join industries
    left join looked_through using (trade_date, week_end, industry_code)
    where
        looked_through.industry_code is not null
        or (days.trade_date >= industries.first_date and days.trade_date < industries.end_date)

)

select
    {{ text_var('scheme') }} as scheme,
    complete.trade_date,
    complete.industry_code,
    complete.industry_name,
    complete.held_value_cny,
    complete.held_value_cny
    / nullif({{ exact_sum('complete.held_value_cny', "over (partition by complete.trade_date)") }}, 0) as held_share_ratio,
    float_value.float_market_value_cny,
    complete.held_value_cny / float_value.float_market_value_cny as penetration_ratio,
    complete.net_creation_cny,
    complete.week_end,
    complete.week_net_creation_cny,
    {{ text_var('source_label') }} as source
from complete
asof left join {{ ref('int_industry__float_value') }} as float_value
    on
        complete.industry_code = float_value.industry_code
        and complete.trade_date >= float_value.segment_start
