"""A key kept on a confirmed lease, whatever the key is for."""
