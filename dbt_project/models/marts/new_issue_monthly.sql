with months as (

    select distinct month_end
    from {{ ref('stg_calendar__session') }}
    where
        month_end <= (select max(trade_date) from {{ ref('stg_etf__share') }})
        and month_end >= (select min(found_date) from {{ ref('stg_fund__info') }})

),

issued as (

    select
        months.month_end,
        {{ exact_sum('fund.issue_shares', "filter (where etf.asset_scope = 'aShareStockEtf')") }} as etf_issue_shares,
        {{ exact_sum('fund.issue_shares', "filter (where fund.is_active_equity)") }} as active_issue_shares
    from months
    left join {{ ref('stg_fund__info') }} as fund
        on date_trunc('month', fund.found_date) = date_trunc('month', months.month_end)
    left join {{ ref('stg_etf__info') }} as etf on fund.fund_code = etf.etf_code
    group by all

),

changed as (

    select
        *,
        etf_issue_shares / nullif(lag(etf_issue_shares) over (order by month_end), 0) - 1 as etf_issue_change_ratio,
        active_issue_shares / nullif(lag(active_issue_shares) over (order by month_end), 0) - 1
        as active_issue_change_ratio
    from issued

)

select
    month_end,
    etf_issue_shares,
    active_issue_shares,
    etf_issue_change_ratio,
    active_issue_change_ratio,
    etf_issue_change_ratio - active_issue_change_ratio as heat,
    {{ text_var('source_label') }} as source
from changed
