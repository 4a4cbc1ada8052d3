with weeks as (

    select week_end
    from {{ ref('stg_calendar__week') }}
    where week_end <= (select max(trade_date) from {{ ref('stg_etf__share') }})

),

in_use as (

    select weeks.week_end, report.report_date, report.public_date
    from weeks
    asof join {{ ref('int_fund__report') }} as report on weeks.week_end >= report.public_date
    where weeks.week_end < report.public_date + interval {{ var('disclosed_months') }} month

),

-- what one day made known of a report, once for all weeks it is in use
disclosed as (

    select
        holding.report_date,
        holding.known_date,
        membership.industry_code,
        {{ decimal_sum('holding.market_value_cny') }} as market_value_cny
    from {{ ref('stg_fund__holding') }} as holding
    inner join {{ ref('stg_fund__info') }} as fund on holding.fund_code = fund.fund_code and fund.is_active_equity
    inner join {{ ref('stg_industry__membership') }} as membership
        on
            holding.stock_code = membership.stock_code
            and holding.report_date >= membership.in_date
            and holding.report_date < membership.out_date
    group by all

),

held as (

    select
        in_use.week_end,
        in_use.report_date,
        in_use.public_date,
        disclosed.industry_code,
        {{ exact_sum('disclosed.market_value_cny') }} as market_value_cny
    from in_use
    inner join disclosed
        on in_use.report_date = disclosed.report_date and in_use.week_end >= disclosed.known_date
    group by all

)

select
    held.week_end,
    industry.industry_code,
    held.report_date,
    held.public_date,
    coalesce(max(held.market_value_cny) filter (where held.industry_code = industry.industry_code), 0)
    / {{ exact_sum('held.market_value_cny') }} as active_share_ratio,
    {{ text_var('source_label') }} as source
from held
cross join {{ ref('stg_industry__info') }} as industry
group by held.week_end, industry.industry_code, held.report_date, held.public_date
