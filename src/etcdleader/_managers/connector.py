"""The shared connection of a client, whatever kind of client the user has passed."""

from __future__ import annotations

from collections.abc import Hashable
from contextlib import AbstractAsyncContextManager
from typing import TYPE_CHECKING, Any

from ..config import EtcdConfig

# The etcd client is imported at the first connection. It would take half of the time of `import etcdleader`.
if TYPE_CHECKING:
    from .._etcd.api import EtcdApi
    from .._lease.shared_connection import SharedConnection


def check_client(client: object, argument: str = "client") -> None:
    """Check the type of a user's client. ``argument`` is its name in the caller's signature.

    Raises:
        TypeError: It is no ``EtcdConfig``, no ``etcd3.Etcd3Client``, and does not implement the port.
    """
    if _is_port(client) and not _implements_port(client):
        raise TypeError(f"{argument} must be an EtcdConfig or an etcd3.Etcd3Client, not {type(client).__name__}")


def borrows_token(client: Any) -> bool:
    """Return True for an ``etcd3`` client with a user: it logged in once, and does not renew its token."""
    return not _is_port(client) and bool(getattr(client, "metadata", None))


def connect(client: Any) -> AbstractAsyncContextManager[SharedConnection]:
    """Return a context manager that uses the shared connection. It opens no connection before it is entered."""
    from .._lease.shared_connection import acquire_connection

    if _is_port(client):
        return acquire_connection(id(client), lambda: client, owned=False)
    key: Hashable = client if isinstance(client, EtcdConfig) else id(client)

    def open_client() -> EtcdApi:
        from .._etcd.client import new_client

        return new_client(client)

    return acquire_connection(key, open_client, owned=True)


def _is_port(client: object) -> bool:
    return not isinstance(client, EtcdConfig) and not _is_etcd3_client(client)


def _is_etcd3_client(client: object) -> bool:
    """Return True for an etcd3 client, without importing etcd3: a program with such a client has imported it."""
    return any(base.__module__.startswith("etcd3.") and base.__name__ == "Etcd3Client" for base in type(client).__mro__)


def _implements_port(client: object) -> bool:
    from .._etcd.api import EtcdApi

    return isinstance(client, EtcdApi)
