with months as (

    select distinct month_end
    from {{ ref('stg_calendar__session') }}
    where
        month_end <= (select max(trade_date) from {{ ref('stg_etf__share') }})
        and month_end >= (select min(found_date) from {{ ref('stg_fund__info') }})

),

{%- set scopes = {"etf": "etf.asset_scope = 'aShareStockEtf'", "active": "fund.is_active_equity"} %}

issued as (

    select
        months.month_end,
        -- none of a kind in a month the fund list reaches is zero; a month without any fund may be past the list's end
        {%- for name, scope in scopes.items() %}
        case
            when count(fund.fund_code) = 0 then null
            when count(fund.fund_code) filter (where {{ scope }}) = 0 then 0
            else {{ exact_sum('fund.issue_shares', "filter (where " ~ scope ~ ")") }}
        end as {{ name }}_issue_shares{{ "," if not loop.last }}
        {%- endfor %}
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
