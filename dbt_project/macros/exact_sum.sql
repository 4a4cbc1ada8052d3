{#- Sum of money or shares in exact decimals (a millionth of a unit), as a double: the sum of doubles depends on the
    order of the rows, so that a day's total could differ in its last digits with the days computed beside it.
    `tail` is a filter or window clause; `scale` the decimals kept. `digits` are those of one addend, not of the sum:
    up to 18 are summed faster, and an addend that needs more (a million million of CNY) is an error. -#}
{% macro exact_sum(expression, tail='', scale=6, digits=38) -%}
    cast({{ decimal_sum(expression, scale, digits) }} {{ tail }} as double)
{%- endmacro %}


{#- The same before it is made a double: what is summed further stays exact. -#}
{% macro decimal_sum(expression, scale=6, digits=38) -%}
    sum(cast({{ expression }} as decimal({{ digits }}, {{ scale }})))
{%- endmacro %}
