{#- Splits of each ETF with the days from which (`since`) to before which (`until`) their `cumulative_factor` is the
    newest, counted by `day`. Few ETFs ever split: this joins by code what an as-of join would sort every day for. -#}
{% macro splits_since(day) -%}
    (
        select
            etf_code,
            cumulative_factor,
            {{ day }} as since,
            lead({{ day }}, 1, date '9999-12-31') over (partition by etf_code order by {{ day }}, ex_date) as until
        from {{ ref('int_etf__split_event') }}
    )
{%- endmacro %}
