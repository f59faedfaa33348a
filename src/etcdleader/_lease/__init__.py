"""A key that is kept on a confirmed lease: a candidate key, a registration, or any other key."""
