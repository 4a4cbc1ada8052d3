{#- Rows of `relation` with `known_date`: the first session whose decision comes after the row could be known.
    Few moments serve many rows, so the as-of join is made once a moment. `day` is the column an incremental model
    keeps rows by. -#}
{% macro with_known_date(relation, day=none) -%}
    select fact.*, moment.known_date
    from {{ relation }} as fact
    inner join (
        select published.available_at, session.trade_date as known_date
        from (select distinct available_at from {{ relation }}) as published
        asof join {{ ref('stg_calendar__session') }} as session
            on session.decision_at >= published.available_at
    ) as moment using (available_at)
    where {% if day %}{{ since('fact.' ~ day) }}{% else %}true{% endif %}
{%- endmacro %}


{#- Rows of `relation` fit for an as-of join on `known_date`: per `entity` and known_date only the newest fact,
    and none that is older than a fact already known by then. Where every fact of an entity was known on its own
    session, and that is nearly everywhere, nothing can be out of order and nothing is sorted. -#}
{% macro newest_known(relation, entity, fact_date) -%}
    with fact as (select * from {{ relation }}),

    unpunctual as (select distinct {{ entity }} from fact where known_date is distinct from {{ fact_date }})

    select *
    from fact
    where {{ entity }} not in (select {{ entity }} from unpunctual)

    union all

    select *
    from fact
    where {{ entity }} in (select {{ entity }} from unpunctual)
    qualify {{ fact_date }} = max({{ fact_date }}) over (
            partition by {{ entity }} order by known_date
            range between unbounded preceding and current row
        )
{%- endmacro %}
