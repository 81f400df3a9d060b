"""Benchmarks: each runs us and the peers in the same run, prints a table with ratios and writes JSON."""
