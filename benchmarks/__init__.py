"""Quality and latency of bundles: `python -m benchmarks COMMAND`."""
