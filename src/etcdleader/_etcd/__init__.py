"""How etcd is spoken to: the port (``api``), and the adapter to python-etcd3 behind it."""
