"""Measurements beside the peers, in one run; ``python -m benchmarks`` renews the tables of docs/measured.md."""
