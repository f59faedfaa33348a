"""``etcdleader run``: a command that runs while this machine leads."""
