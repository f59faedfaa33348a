"""The shared connection to etcd, and the sessions that keep a key on a confirmed lease over it."""
