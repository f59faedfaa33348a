"""The process that ``etcdleader run`` is, when its arguments are understood. It is loaded then."""

from __future__ import annotations

import logging
import signal
from contextlib import AbstractContextManager, nullcontext

import anyio

from ..._managers.etcd import EtcdLeaderManager
from ..._managers.noop import NoopLeaderManager
from ..._values.exit_codes import ExitCode
from ...errors import EtcdRegressedError
from .runner import Plan, Runner
from .supervisor import LINUX, become_subreaper

__all__ = ("conduct", "ignored_signals")

_logger = logging.getLogger("etcdleader.run")


def ignored_signals() -> frozenset[int]:
    """Those that this process was started with ignored, such as SIGHUP by ``nohup``: so shall the command be."""
    ignored = {number for number in signal.valid_signals() if signal.getsignal(number) is signal.SIG_IGN}
    return frozenset(ignored - {signal.SIGPIPE, signal.SIGXFSZ})  # Python itself ignores these


def conduct(manager: EtcdLeaderManager | NoopLeaderManager, plan: Plan, http: tuple[str, int] | None) -> int:
    """Campaign, run the command, and return the exit status."""
    if not LINUX:
        _logger.warning(
            "this is not Linux. What leaves the command's process group is not found when it has to be ended, nothing "
            "ends the command when its supervisor is killed, and the clock may not count suspend."
        )
    become_subreaper()
    signal.signal(signal.SIGTTOU, signal.SIG_IGN)  # the command has the terminal; a line on stderr must not stop us
    try:
        serving = nullcontext() if http is None else _serving(manager, *http)
        with serving:
            return _outcome(manager, plan)
    except OSError as error:
        _logger.error("--http: %s", error)  # noqa: TRY400 - the line says it all
        return ExitCode.NO_SERVICE


def _outcome(manager: EtcdLeaderManager | NoopLeaderManager, plan: Plan) -> int:
    # What ends a campaign is in the log already.
    try:
        return anyio.run(Runner(manager, plan).run)
    except EtcdRegressedError:
        return ExitCode.REGRESSED
    except OSError:
        return (
            ExitCode.NOT_EXECUTABLE
        )  # the command could not even be tried: its arguments are too long, or there is no more memory


def _serving(manager: EtcdLeaderManager | NoopLeaderManager, host: str, port: int) -> AbstractContextManager[object]:
    from ...health import serve

    registry = None
    try:
        from prometheus_client import REGISTRY

        from ...prometheus import PrometheusMetrics
    except ModuleNotFoundError:
        pass
    else:
        PrometheusMetrics().attach(manager)
        registry = REGISTRY
    return serve(manager, host, port, registry=registry)
