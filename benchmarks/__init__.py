"""Benchmarks; run each as a module."""
