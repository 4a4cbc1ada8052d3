{#- A variable as a text in SQL, whatever characters it has. -#}
{% macro text_var(name) -%}
    {{ dbt.string_literal(dbt.escape_single_quotes(var(name))) }}
{%- endmacro %}
