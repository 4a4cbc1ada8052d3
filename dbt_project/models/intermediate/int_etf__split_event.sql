-- Listed splits, and those that prices show: a step of closes beside adjusted closes, of any size; or a step of NAV or
-- traded price that no daily limit allows and that a whole number explains, or else the shares that moved with it.
with undistributed as (

    -- what a listed dividend took out of the close is no split
    select
        step.etf_code,
        step.kind,
        step.trade_date,
        product(1 - dividend.cash_per_share / step.previous_price) as kept_ratio
    from {{ ref('int_etf__price_step') }} as step
    inner join {{ ref('stg_etf__dividend') }} as dividend
        on
            step.etf_code = dividend.etf_code
            and dividend.ex_date > step.previous_date
            and dividend.ex_date <= step.trade_date
    where step.is_exact and dividend.cash_per_share < step.previous_price
    group by all

),

steps as (

    select
        step.* exclude (step, new_per_old),
        step.step * coalesce(undistributed.kept_ratio, 1) as step,
        case
            when undistributed.kept_ratio is null then step.new_per_old
            else step.step * undistributed.kept_ratio
        end as new_per_old,
        -- the last session of the known calendar has no successor yet
        coalesce(session.next_trade_date, session.trade_date) as next_trade_date
    from {{ ref('int_etf__price_step') }} as step
    inner join {{ ref('stg_calendar__session') }} as session using (trade_date)
    left join undistributed using (etf_code, kind, trade_date)

),

-- the shares that moved most nearly by the step, with the price or on the session before it
beside_shares as (

    select
        steps.*,
        arg_min(observation.share_ratio, abs(ln(observation.share_ratio / steps.step))) as share_ratio
    from steps
    left join {{ ref('int_etf__observation') }} as observation
        on
            steps.etf_code = observation.etf_code
            and observation.trade_date >= steps.previous_date
            and observation.trade_date <= steps.trade_date
    group by all

),

explained as (

    select
        * exclude (new_per_old),
        coalesce(
            abs(ln(share_ratio / step)) <= ln(1 + {{ var('split_price_jump') }})
            and abs(ln(share_ratio / step)) < abs(ln(share_ratio)),
            false
        ) as is_followed,
        case when new_per_old is null and is_followed then share_ratio else new_per_old end as new_per_old
    from beside_shares
    where
        greatest(step, 1 / step) > 1 + {{ var('split_minimum_step') }}
        -- so small a fall of the close may be a dividend that is not listed: the shares have to show it nearly whole
        and (
            not is_exact
            or step < 1
            or step > 1 + {{ var('split_dividend_limit') }}
            or coalesce(abs(ln(share_ratio / step)) <= {{ var('split_follow_tolerance') }} * ln(step), false)
        )

),

-- the NAV takes a split with the shares, the traded price on that session or the one after
inferred as (

    select
        coalesce(market.etf_code, nav.etf_code) as etf_code,
        case when market.is_exact then market.new_per_old else coalesce(nav.new_per_old, market.new_per_old) end as new_per_old,
        coalesce(market.trade_date, nav.trade_date) as ex_date,
        -- over a hole of NAVs the traded price shows it first
        case when nav.trade_date is not null then least(nav.trade_date, market.trade_date) end as nav_date,
        nav.previous_date as nav_previous_date,
        least(market.previous_date, nav.previous_date) as previous_date,
        greatest(market.next_trade_date, nav.next_trade_date) as next_trade_date,
        concat_ws(
            ', ',
            case when market.is_exact then 'adjusted close' when market.trade_date is not null then 'traded price' end,
            case when nav.trade_date is not null then 'NAV' end,
            case when coalesce(market.is_followed, nav.is_followed) then 'shares' end
        ) as evidence
    from (select * from explained where kind = 'market' and new_per_old is not null) as market
    full outer join (select * from explained where kind = 'nav' and new_per_old is not null) as nav
        on
            market.etf_code = nav.etf_code
            -- each holds a day's own move, and a whole number may be one beside the other
            and abs(ln(market.step / nav.step)) <= ln(1 + {{ var('split_price_jump') }})
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
        false as is_inferred,
        concat_ws(', ', 'listed', max(inferred.evidence)) as evidence
    from {{ ref('stg_etf__split') }} as listed
    left join inferred
        on
            listed.etf_code = inferred.etf_code
            and abs(listed.new_per_old / inferred.new_per_old - 1) <= {{ var('split_integer_tolerance') }}
            and listed.ex_date >= coalesce(inferred.nav_date, inferred.ex_date)
            and listed.ex_date <= inferred.next_trade_date
    group by all

    union all

    select etf_code, ex_date, new_per_old, nav_date, nav_previous_date, true as is_inferred, evidence
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
    events.evidence,
    product(events.new_per_old) over (partition by events.etf_code order by events.ex_date) as cumulative_factor
from events
left join early using (etf_code, ex_date)
