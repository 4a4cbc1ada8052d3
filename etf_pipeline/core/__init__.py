"""Pure numerics: arrays and frames in, arrays and frames out; no Dagster, DuckDB, clock or environment."""
