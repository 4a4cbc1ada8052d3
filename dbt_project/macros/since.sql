{#- An incremental model keeps the rows it has from before the day `computed_from` and computes the others anew. Which
    day that is, and why the rows before it cannot differ: etf_pipeline/resources/increment.py.

    `since` is true of what is computed anew, `since_last` of an ETF's days from then on and of its last one before, and
    `since_in_use` of what may still be in use as the newest that is known. All are true of everything when everything
    is computed. -#}
{% macro since(column) -%}
    {% if keeps_rows() %}{{ column }} >= {{ window_day('computed_from') }}{% else %}true{% endif %}
{%- endmacro %}


{% macro since_last(kept, day) -%}
    {% if keeps_rows() -%}
    (
        {{ since(day ~ '.trade_date') }}
        or ({{ day }}.etf_code, {{ day }}.trade_date) in (
            select (etf_code, max(trade_date)) from {{ kept }}
            where trade_date < {{ window_day('computed_from') }}
            group by etf_code
        )
    )
    {%- else %}true{% endif %}
{%- endmacro %}


{% macro since_in_use(column) -%}
    {% if keeps_rows() %}{{ column }} >= {{ window_day('in_use_from') }}{% else %}true{% endif %}
{%- endmacro %}


{#- In a unit test there is no table that rows could be kept in, and dbt's own macro fails. -#}
{% macro keeps_rows() -%}
    {{ return(this is not none and is_incremental()) }}
{%- endmacro %}


{% macro window_day(name) -%}
    date '{{ var(name) }}'
{%- endmacro %}
