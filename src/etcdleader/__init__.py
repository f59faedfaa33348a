"""Leader election on etcd leases: one leader among many processes, and no late writes.

The rooms, one a line, from the lowest layer to the highest. A module imports only from lower layers; import-linter checks
that. To follow one candidacy, start at ``_election.candidacy``.

- ``model``: the values of an election: term, status, record, statistics.
- ``errors``: the errors, named by the remedy.
- ``_values``: checks of values: durations, addresses, problems of settings.
- ``_runtime``: the differences between event loops and operating systems.
- ``_grpc``: a gRPC client over HTTP/2, without any reference to etcd.
- ``config``: the settings of an election and of etcd, as valid values.
- ``_etcd``: the port to etcd (``_etcd.api``) and the client behind it.
- ``observation``: the contract of observing an election.
- ``manager``: the contract of a leader manager.
- ``metrics``: the events of an election that metrics receive, and the fan-out to several metrics.
- ``_lease``: the shared connection, and a key kept on a confirmed lease over it.
- ``_election``: one candidacy over a lease, and views of the queue.
- ``_managers``: campaigns, terms and callbacks.
- ``_settings``: the sources of settings (``_settings.sources`` uses dynaconf).
- ``factory``: makes a manager from settings.
- ``health``: health over HTTP, for load balancers and probes.
- ``prometheus``: metrics for Prometheus.
- ``opentelemetry``: metrics for OpenTelemetry.
- ``fencing``: refuses late writes by their tokens.
- ``blocking``: a manager for threads, whose calls block.
- ``registration``: an ephemeral key on a confirmed lease.
- ``etcd3``: the package etcd3, under any version of protobuf.
- ``testing``: a fake etcd, real etcds and virtual time, for tests.
- ``_cli``: the command.
- ``__main__``: ``python -m etcdleader``.
"""

from __future__ import annotations

from ._etcd import etcd3_finder

# typing takes long to import, so its constant is not used. Most names here are imported at their first use.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from ._managers.etcd_manager import EtcdLeaderManager
    from ._managers.noop_manager import NoopLeaderManager
    from .config import Config, EtcdConfig
    from .errors import (
        ConfigError,
        EtcdLeaderError,
        EtcdRefusedError,
        EtcdRegressedError,
        EtcdUnavailableError,
        HandOverError,
        LeadershipLostError,
        NotLeaderError,
    )
    from .factory import from_settings, must_new_leader_manager_from_config
    from .manager import LeaderManager
    from .model import ElectionStatistics, LeaderRecord, LeaderStatus, LossReason, Term

__all__ = (
    "Config",
    "ConfigError",
    "ElectionStatistics",
    "EtcdConfig",
    "EtcdLeaderError",
    "EtcdLeaderManager",
    "EtcdRefusedError",
    "EtcdRegressedError",
    "EtcdUnavailableError",
    "HandOverError",
    "LeaderManager",
    "LeaderRecord",
    "LeaderStatus",
    "LeadershipLostError",
    "LossReason",
    "NoopLeaderManager",
    "NotLeaderError",
    "Term",
    "from_settings",
    "must_new_leader_manager_from_config",
)

_HOMES = {
    "Config": "config",
    "ConfigError": "errors",
    "ElectionStatistics": "model",
    "EtcdConfig": "config",
    "EtcdLeaderError": "errors",
    "EtcdLeaderManager": "_managers.etcd_manager",
    "EtcdRefusedError": "errors",
    "EtcdRegressedError": "errors",
    "EtcdUnavailableError": "errors",
    "HandOverError": "errors",
    "LeaderManager": "manager",
    "LeaderRecord": "model",
    "LeaderStatus": "model",
    "LeadershipLostError": "errors",
    "LossReason": "model",
    "NoopLeaderManager": "_managers.noop_manager",
    "NotLeaderError": "errors",
    "Term": "model",
    "from_settings": "factory",
    "must_new_leader_manager_from_config": "factory",
}
_MODULES = {
    "blocking",
    "config",
    "errors",
    "factory",
    "fencing",
    "health",
    "manager",
    "metrics",
    "model",
    "observation",
    "registration",
    "testing",
}
"""The public modules, without those that need other packages than the library."""


if not TYPE_CHECKING:  # for type checkers, it would make every name valid, even a misspelled one

    def __getattr__(name: str) -> object:
        """Import a part of the package at its first use (PEP 562), so that importing the package costs little."""
        from importlib import import_module

        if name in _HOMES:
            value: object = getattr(import_module(f".{_HOMES[name]}", __name__), name)
        elif name in _MODULES:
            value = import_module(f".{name}", __name__)
        else:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        globals()[name] = value
        return value

    def __dir__() -> list[str]:
        return sorted({*globals(), *__all__})


# From here on, `import etcd3` works with every protobuf, in any order of imports. This call does not import etcd3.
etcd3_finder.install()
