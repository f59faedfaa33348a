"""Types and pure functions for values: durations, addresses, kinds of settings, problems, exit codes."""
