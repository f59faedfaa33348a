"""Where settings come from, and what their tables say."""
