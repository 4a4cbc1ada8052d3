{#- Sum of money or shares in exact decimals (a millionth of a unit), as a double: the sum of doubles depends on the
    order of the rows, so that a day's total could differ in its last digits with the days computed beside it.
    `tail` is a filter or window clause; `scale` the decimals kept. -#}
{% macro exact_sum(expression, tail='', scale=6) -%}
    cast(sum(cast({{ expression }} as decimal(38, {{ scale }}))) {{ tail }} as double)
{%- endmacro %}
