"""What tests, demos and benchmarks use: synthetic data sets."""
