"""Data-quality checks that appear as Dagster asset checks."""
