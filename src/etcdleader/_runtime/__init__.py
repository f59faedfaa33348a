"""Primitives for event loops, forks, threads and clocks, which differ between backends and platforms."""
