-- listed splits, and steps of NAV or traded price that no daily limit allows and a whole number explains
with quotes as (

    select etf_code, trade_date, 'nav' as kind, unit_nav as price, null as adjusted_price
    from {{ ref('int_etf__price') }}
    where unit_nav is not null

    union all

    select etf_code, trade_date, 'market' as kind, market_price as price, adjusted_close as adjusted_price
    from {{ ref('int_etf__price') }}
    where market_price is not null

),

stepped as (

    select
        quotes.etf_code,
        quotes.kind,
        quotes.trade_date,
        -- the last session of the known calendar has no successor yet
        coalesce(session.next_trade_date, session.trade_date) as next_trade_date,
        lag(quotes.trade_date) over series as previous_date,
        session.session_number - lag(session.session_number) over series as sessions,
        lag(quotes.price) over series / quotes.price as plain_step,
        -- raw over adjusted price is free of the market's own move
        plain_step * quotes.adjusted_price / lag(quotes.adjusted_price) over series as adjusted_step
    from quotes
    inner join {{ ref('stg_calendar__session') }} as session using (trade_date)
    window series as (partition by quotes.etf_code, quotes.kind order by quotes.trade_date)

),

judged as (

    select
        *,
        coalesce(adjusted_step, plain_step) as step,
        case when step > 1 then round(step) else 1 / round(1 / step) end as whole_step,
        case
            when adjusted_step is null then pow(1 + {{ var('split_price_jump') }}, sessions)
            else 1 + {{ var('split_price_jump') }}
        end as limit_step
    from stepped

),

steps as (

    select etf_code, kind, previous_date, trade_date, next_trade_date, step, whole_step as new_per_old
    from judged
    where
        (step > limit_step or step < 1 / limit_step)
        and whole_step <> 1
        and abs(step / whole_step - 1) <= {{ var('split_integer_tolerance') }}

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
