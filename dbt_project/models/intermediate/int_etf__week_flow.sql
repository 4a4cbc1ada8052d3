-- flows known on their own day, as the look-through uses them
select etf_code, week_end
from {{ ref('int_etf__flow') }}
where flow_known_date = trade_date and interval_net_creation_cny is not null
group by all
