"""Checks of values, as pure functions: durations, addresses, and what is wrong with a setting."""
