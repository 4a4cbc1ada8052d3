{#- Left join, as `name`, of the splits of `etf` whose `cumulative_factor` is the newest on `day`, counted by `basis`: by
    share_date for shares and NAVs, by ex_date for traded prices. An ETF that never split has none. -#}
{% macro join_splits(name, basis, etf, day) -%}
    left join {{ splits_since(basis) }} as {{ name }}
        on
            {{ etf }}.etf_code = {{ name }}.etf_code
            and {{ day }} >= {{ name }}.since
            and {{ day }} < {{ name }}.until
{%- endmacro %}
