"""The etcd client: the port (``api``), its implementation over a network, and the adapter to python-etcd3."""
