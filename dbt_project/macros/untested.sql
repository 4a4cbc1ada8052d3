{#- True of the rows that this build computes. Rows an incremental model keeps were tested by the build that computed
    them: one whose tests fail, or were left out, does not close its window (etf_pipeline/assets/warehouse.py). Without
    `computed_from` true of all rows. -#}
{% macro untested(column) -%}
    {% if var('computed_from', none) %}{{ column }} >= date '{{ var("computed_from") }}'{% else %}true{% endif %}
{%- endmacro %}


{#- What dbt's generic tests look at: of an incremental model the untested rows, of any other model all. -#}
{% macro get_where_subquery(relation) -%}
    {%- set node = graph.nodes.get('model.' ~ project_name ~ '.' ~ relation.identifier) if execute else none -%}
    {%- if node and node.config.materialized == 'incremental' and var('computed_from', none) -%}
        {{ return('(select * from ' ~ relation ~ ' where ' ~ untested(node.config.unique_key) ~ ')') }}
    {%- endif -%}
    {{ return(default__get_where_subquery(relation)) }}
{%- endmacro %}
