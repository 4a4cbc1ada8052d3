with described as (

    select
        etf_code,
        name,
        index_code,
        asset_scope,
        theme,
        management_fee + custody_fee as annual_fee_ratio,
        list_date,
        delist_date,
        coalesce(name like '%增强%', false) as is_enhanced
    from {{ source('raw', 'etf_info') }}

)

select
    *,
    case
        when asset_scope is null then 'asset scope unknown'
        when asset_scope <> 'aShareStockEtf' then 'not an A-share stock ETF'
        when is_enhanced then 'enhanced: publishes no weights'
    end as universe_exclusion
from described
