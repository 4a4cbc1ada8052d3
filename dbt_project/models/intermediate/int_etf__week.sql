-- ETFs whose value reaches an industry at the end of a week
select
    held.etf_code,
    held.week_end,
    week.week_number,
    daily.index_code,
    daily.theme_industry_code,
    daily.look_through,
    daily.as_of_date,
    daily.segment_start,
    held.held_value_cny,
    week_flow.etf_code is not null as has_flow
from {{ ref('int_etf__held_value') }} as held
inner join {{ ref('int_index__daily') }} as daily
    on
        held.trade_date = daily.trade_date
        and held.index_code is not distinct from daily.index_code
        and held.theme_industry_code is not distinct from daily.theme_industry_code
        and held.is_enhanced = daily.is_enhanced
inner join {{ ref('stg_calendar__week') }} as week on held.week_end = week.week_end
left join {{ ref('int_etf__week_flow') }} as week_flow
    on held.etf_code = week_flow.etf_code and held.week_end = week_flow.week_end
where held.trade_date = held.week_end and daily.look_through in ('weights', 'theme')
