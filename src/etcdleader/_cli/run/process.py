"""The process of ``etcdleader run`` after its arguments are parsed. Only then is this module imported."""

from __future__ import annotations

import logging
import signal
from contextlib import AbstractContextManager, nullcontext

import anyio

from ..._managers.etcd_manager import EtcdLeaderManager
from ..._managers.noop_manager import NoopLeaderManager
from ..._values.exit_codes import ExitCode
from ...errors import EtcdRegressedError
from .plan import Plan
from .runner import Runner
from .supervisor import LINUX, become_subreaper

__all__ = ("conduct", "ignored_signals")

_logger = logging.getLogger("etcdleader.run")


def ignored_signals() -> list[int]:
    """Return the signals that this process ignored at its start, such as SIGHUP under ``nohup``. The command ignores them."""
    ignored = {number for number in signal.valid_signals() if signal.getsignal(number) is signal.SIG_IGN}
    return sorted(ignored - {signal.SIGPIPE, signal.SIGXFSZ})  # Python itself ignores these


def conduct(manager: EtcdLeaderManager | NoopLeaderManager, plan: Plan, http: tuple[str, int] | None) -> int:
    """Campaign, run the command, and return the exit status."""
    if not LINUX:
        _logger.warning(
            "this is not Linux. Processes outside the command's process group are not ended. If the supervisor is "
            "killed, the command is not ended. The clock may not count suspend."
        )
    become_subreaper()
    # The command has the terminal. A write to stderr must not stop this process.
    signal.signal(signal.SIGTTOU, signal.SIG_IGN)
    try:
        with nullcontext() if http is None else _serving(manager, *http):
            return _outcome(manager, plan)
    except OSError as error:
        _logger.error("--http cannot be served: %s", error)  # noqa: TRY400 - a traceback adds nothing
        return ExitCode.NO_SERVICE


def _outcome(manager: EtcdLeaderManager | NoopLeaderManager, plan: Plan) -> int:
    # The log already has the error that ended the campaign.
    try:
        return anyio.run(Runner(manager, plan).run)
    except EtcdRegressedError:
        return ExitCode.REGRESSED
    except OSError:
        # The command could not be started: its arguments are too long, or there is no memory.
        return ExitCode.NOT_EXECUTABLE


def _serving(manager: EtcdLeaderManager | NoopLeaderManager, host: str, port: int) -> AbstractContextManager[object]:
    from ...health import serve

    try:
        from prometheus_client import REGISTRY

        from ...prometheus import PrometheusMetrics
    except ModuleNotFoundError:
        return serve(manager, host, port)
    PrometheusMetrics().attach(manager)
    return serve(manager, host, port, registry=REGISTRY)
