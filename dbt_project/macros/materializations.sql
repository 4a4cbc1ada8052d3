{#- dbt-duckdb's materialisations of tables, for tables that nobody reads while they are built: replaced, or their rows
    from the window's first day on, in one transaction. Its own, by temporary and backup tables for whoever reads
    meanwhile, by hooks, grants and indexes, take three times as many statements, of which dbt itself spends
    milliseconds on each. -#}
{% materialization table, adapter='duckdb' %}
    {{ return(materialize(replaced_table(this, sql))) }}
{% endmaterialization %}


{#- The rows kept and the rows computed always have the same columns: where any model changed, all are computed anew
    (etf_pipeline/resources/increment.py). -#}
{% materialization incremental, adapter='duckdb' %}
    {{ return(materialize(replaced_rows(this, sql) if is_incremental() else replaced_table(this, sql))) }}
{% endmaterialization %}


{% macro materialize(statements) -%}
    {%- call statement('main') -%}{{ statements }}{%- endcall -%}
    {%- do adapter.commit() -%}
    {{ return({'relations': [this.incorporate(type='table')]}) }}
{%- endmacro %}


{% macro replaced_table(table, sql) -%}
    create or replace table {{ table }}
    {% if config.get('contract').enforced -%}
        {{ get_assert_columns_equivalent(sql) }}
        {{ get_table_columns_and_constraints() }};
        {{ inserted_rows(table, sql) }}
    {%- else -%}
        as ({{ sql }})
    {%- endif -%}
{%- endmacro %}


{% macro replaced_rows(table, sql) -%}
    delete from {{ table }} where {{ since(config.require('unique_key')) }};
    {{ inserted_rows(table, sql) }}
{%- endmacro %}


{% macro inserted_rows(table, sql) -%}
    insert into {{ table }} by name ({{ sql }})
{%- endmacro %}
