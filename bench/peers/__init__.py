"""The workloads of bench.local, bench.remote and bench.spawn on other actor frameworks."""
