"""``etcdleader demo``: show a failover."""
