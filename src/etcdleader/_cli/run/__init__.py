"""``etcdleader run``: run a command only while this process leads."""
