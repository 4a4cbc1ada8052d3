{#- One row per stock and day on which it enters or leaves an industry; what is cut at such days is cut at both. -#}
{% macro membership_changes() -%}
    (select stock_code, unnest([in_date, out_date]) as changed_on from {{ ref('stg_industry__membership') }})
{%- endmacro %}
