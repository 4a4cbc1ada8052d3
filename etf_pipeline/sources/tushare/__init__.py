"""Tushare Pro as a source."""
