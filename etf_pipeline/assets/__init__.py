"""Dagster assets, one module per layer: raw, warehouse (dbt), factors, strategy."""
