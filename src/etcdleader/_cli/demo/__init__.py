"""``etcdleader demo``: a failover to watch."""
