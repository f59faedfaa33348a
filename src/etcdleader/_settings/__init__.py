"""Settings: their sources, their tables and their values."""
