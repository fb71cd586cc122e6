"""Measurements beside the peers, in one run; ``python -m benchmarks`` renews the README's tables."""
