{{ config(materialized='incremental', unique_key='week_end') }}

with purity as (

    select index_code, as_of_date, segment_start, industry_code, weight as industry_weight_ratio
    from {{ ref('int_index__industry_weight') }}
    where basis = 'constituents' and weight >= {{ var('tracker_purity') }}

),

held as (

    select
        held.week_end,
        coalesce(purity.industry_code, held.theme_industry_code) as industry_code,
        held.etf_code,
        held.index_code,
        coalesce(purity.industry_weight_ratio, 1) as industry_weight_ratio,
        held.held_value_cny
    from {{ ref('int_etf__held_value') }} as held
    inner join {{ ref('int_index__daily') }} as daily
        on
            held.trade_date = daily.trade_date
            and held.index_code is not distinct from daily.index_code
            and held.theme_industry_code is not distinct from daily.theme_industry_code
            and held.is_enhanced = daily.is_enhanced
    left join purity
        on
            daily.look_through = 'weights'
            and daily.index_code = purity.index_code
            and daily.as_of_date = purity.as_of_date
            and daily.segment_start = purity.segment_start
    where
        held.trade_date = held.week_end
        and (purity.industry_code is not null or daily.look_through = 'theme')
        and {{ since('held.week_end') }}

),

traded as (

    select
        etf_code,
        trade_date,
        {{ exact_sum('amount_cny', 'over recent', digits=18) }} / count(amount_cny) over recent as mean_amount_cny
    from {{ ref('int_etf__price') }}
    where amount_cny is not null and etf_code in (select etf_code from held)
    window recent as (
        partition by etf_code order by trade_date
        rows between {{ var('tracker_liquidity_sessions') }} - 1 preceding and current row
    )

)

select
    held.week_end,
    held.industry_code,
    held.etf_code,
    info.name as etf_name,
    held.index_code,
    held.industry_weight_ratio,
    held.held_value_cny,
    info.annual_fee_ratio,
    traded.mean_amount_cny,
    {{ text_var('source_label') }} as source
from held
inner join {{ ref('stg_etf__info') }} as info using (etf_code)
left join traded on held.etf_code = traded.etf_code and held.week_end = traded.trade_date
