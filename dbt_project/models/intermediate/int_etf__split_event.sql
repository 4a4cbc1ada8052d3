-- listed splits, and steps of NAV or traded price that no daily limit allows and a whole number explains
with steps as (

    select
        step.*,
        -- the last session of the known calendar has no successor yet
        coalesce(session.next_trade_date, session.trade_date) as next_trade_date
    from {{ ref('int_etf__price_step') }} as step
    inner join {{ ref('stg_calendar__session') }} as session using (trade_date)

),

-- the NAV takes a split with the shares, the traded price on that session or the one after
inferred as (

    select
        coalesce(market.etf_code, nav.etf_code) as etf_code,
        coalesce(nav.new_per_old, market.new_per_old) as new_per_old,
        coalesce(market.trade_date, nav.trade_date) as ex_date,
        -- over a hole of NAVs the traded price shows it first
        case when nav.trade_date is not null then least(nav.trade_date, market.trade_date) end as nav_date,
        nav.previous_date as nav_previous_date,
        least(market.previous_date, nav.previous_date) as previous_date,
        greatest(market.next_trade_date, nav.next_trade_date) as next_trade_date
    from (select * from steps where kind = 'market') as market
    full outer join (select * from steps where kind = 'nav') as nav
        on
            market.etf_code = nav.etf_code
            and abs(market.step / nav.step - 1) <= {{ var('split_integer_tolerance') }}
            -- either series may have holes: (before, after] of the price meets that of the NAV and a session more
            and market.trade_date > nav.previous_date
            and market.previous_date < nav.next_trade_date

),

events as (

    select
        listed.etf_code,
        listed.ex_date,
        listed.new_per_old,
        max(inferred.nav_date) as nav_date,
        max(inferred.nav_previous_date) as nav_previous_date,
        false as is_inferred
    from {{ ref('stg_etf__split') }} as listed
    left join inferred
        on
            listed.etf_code = inferred.etf_code
            and listed.new_per_old = inferred.new_per_old
            and listed.ex_date >= inferred.nav_date
            and listed.ex_date <= inferred.next_trade_date
    group by all

    union all

    select etf_code, ex_date, new_per_old, nav_date, nav_previous_date, true as is_inferred
    from inferred
    where
        not exists (
            select 1
            from {{ ref('stg_etf__split') }} as listed
            where
                listed.etf_code = inferred.etf_code
                and listed.ex_date > inferred.previous_date
                and listed.ex_date <= inferred.next_trade_date
        )

),

-- without a NAV, shares that jumped by the factor on the session before took the split there
early as (

    select events.etf_code, events.ex_date, observation.trade_date as share_date
    from events
    inner join {{ ref('int_etf__observation') }} as observation
        on
            events.etf_code = observation.etf_code
            and events.ex_date > observation.trade_date
            and events.ex_date <= observation.next_trade_date
    where
        observation.is_jump
        and not observation.has_nav_pair
        and abs(ln(observation.share_ratio / events.new_per_old)) < abs(ln(observation.share_ratio))

)

select
    events.etf_code,
    events.ex_date,
    coalesce(
        -- a NAV that steps over a hole tells less than the shares in it
        case when early.share_date > events.nav_previous_date and early.share_date < events.nav_date then early.share_date end,
        events.nav_date,
        early.share_date,
        events.ex_date
    ) as share_date,
    events.new_per_old,
    events.is_inferred,
    product(events.new_per_old) over (partition by events.etf_code order by events.ex_date) as cumulative_factor
from events
left join early using (etf_code, ex_date)
