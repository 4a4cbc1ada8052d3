{#- Rows of `relation` with `known_date`: the first session whose decision comes after the row could be known. -#}
{% macro with_known_date(relation) -%}
    select fact.*, session.trade_date as known_date
    from {{ relation }} as fact
    asof join {{ ref('stg_calendar__session') }} as session
        on session.decision_at >= fact.available_at
{%- endmacro %}


{#- Rows of `relation` fit for an as-of join on `known_date`: per `entity` and known_date only the newest fact,
    and none that is older than a fact already known by then. -#}
{% macro newest_known(relation, entity, fact_date) -%}
    select *
    from {{ relation }}
    qualify {{ fact_date }} = max({{ fact_date }}) over (
            partition by {{ entity }} order by known_date
            range between unbounded preceding and current row
        )
{%- endmacro %}
