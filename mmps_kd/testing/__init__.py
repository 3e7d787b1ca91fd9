"""Synthetic data sets for tests and demos."""
