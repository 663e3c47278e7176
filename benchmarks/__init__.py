"""What the package is measured against; run with ``python -m benchmarks``."""
