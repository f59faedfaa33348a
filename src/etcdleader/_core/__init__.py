"""The decisions of an election, as values and pure functions: told the time and never asking for it."""
