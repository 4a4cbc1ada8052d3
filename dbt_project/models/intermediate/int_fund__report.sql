-- when each quarterly report counts as public: once a quorum of the funds of the previous one has announced
with filings as (

    select holding.report_date, holding.fund_code, min(holding.known_date) as known_date
    from {{ ref('stg_fund__holding') }} as holding
    inner join {{ ref('stg_fund__info') }} as fund using (fund_code)
    where fund.is_active_equity
    group by all

),

reports as (

    select report_date, lag(report_date) over (order by report_date) as previous_report_date
    from (select distinct report_date from filings)

),

expected as (

    select reports.report_date, count(*) as funds
    from reports
    inner join filings as previous
        on reports.previous_report_date = previous.report_date and previous.known_date <= reports.report_date
    group by all

),

announced as (

    select
        report_date,
        known_date,
        count(*) over (partition by report_date order by known_date) as funds
    from filings

)

select
    announced.report_date,
    min(announced.known_date) as public_date
from announced
inner join expected using (report_date)
where announced.funds >= {{ var('disclosure_quorum') }} * expected.funds
group by all
