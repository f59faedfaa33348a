"""The doctor's checks of time: whether the settings leave enough for a renewal, and whether idle streams stay open."""

from __future__ import annotations

import statistics
import time

import anyio

from .._election.admin import ANY_KEY
from .._election.queue import election_prefix
from .._etcd.api import EtcdApi, Range, WatchBroken, WatchCanceled, WatchMessage
from ..config import Config
from ..errors import EtcdLeaderError, EtcdRefusedError
from .findings import Finding

_READS_TIMED = 20


async def check_round_trip(api: EtcdApi, config: Config, name: str | None, timeout: float) -> Finding:
    """Compare the time of a renewal with ``retry``, and the sum of the durations with ``lease``."""
    key = ANY_KEY if name is None else election_prefix(name)
    times: list[float] = []
    for _ in range(_READS_TIMED):
        began_at = time.monotonic()
        try:
            await api.range(Range(key, keys_only=True), timeout=timeout)
        except EtcdRefusedError:
            pass  # a refusal proves the round trip: etcd checks permissions after the read
        except EtcdLeaderError as error:
            what = f"read {len(times) + 1} of {_READS_TIMED} failed: {error}"
            return Finding("round trip", "problem", what, "check etcd's log")
        times.append(time.monotonic() - began_at)
    # A renewal takes three round trips: a keep-alive, a proposal and a read.
    middle, longest = 3 * statistics.median(times), 3 * max(times)
    needed = config.renew + 2 * config.retry + config.margin
    said = (
        f"a renewal takes about {middle * 1000:.1f} ms, at most {longest * 1000:.1f} ms; each attempt may take retry = "
        f"{config.retry:g} s; renew + 2 * retry + margin = {needed:g} s of lease = {config.lease:g} s"
    )
    if longest > config.retry:
        advice = "raise retry above that time, and raise lease until the sum fits"
        return Finding("lease budget", "problem", said, advice)
    if longest > config.retry / 2 or middle > config.retry / 10:
        advice = "raise retry, and lease with it: retry is close to the time that a renewal takes"
        return Finding("lease budget", "warning", said, advice)
    return Finding("lease budget", "ok", said)


async def check_pings(api: EtcdApi, name: str | None, timeout: float, hold: float) -> Finding:
    """Hold a stream open for ``hold`` seconds."""
    rule = (
        "the client pings idle connections every 10 s; etcd closes a connection with more frequent pings than its "
        "--grpc-keepalive-min-time (5 s by default)"
    )
    if not hold:
        return Finding("pings", "skipped", rule, "use --hold 60s to hold a stream open for that time")
    try:
        await try_watch(api, ANY_KEY if name is None else election_prefix(name), timeout=timeout, hold=hold)
    except EtcdRefusedError as error:
        return Finding("pings", "skipped", f"etcd refused the stream: {error}")
    except EtcdLeaderError as error:
        advice = (
            "set etcd's --grpc-keepalive-min-time below 10 s, and look for a proxy that closes idle connections. If etcd was "
            "restarted, run this again"
        )
        return Finding("pings", "problem", f"the stream broke within {hold:g} s: {error}", advice)
    return Finding("pings", "ok", f"a stream stayed open for {hold:g} s; {rule}")


async def try_watch(
    api: EtcdApi, key: bytes, range_end: bytes = b"", *, timeout: float, hold: float | None = None
) -> None:
    """Watch until etcd responds, at most for ``timeout`` seconds; or for ``hold`` seconds, whatever etcd sends.

    Raises:
        EtcdLeaderError: The error that ended the watch.
    """
    over = anyio.Event()
    errors: list[EtcdLeaderError] = []

    def sink(message: WatchMessage) -> None:
        if isinstance(message, WatchCanceled | WatchBroken):
            errors.append(message.error)
        if errors or hold is None:
            over.set()

    handle = api.watch(key, range_end, sink=sink, timeout=timeout)
    try:
        with anyio.move_on_after(timeout if hold is None else hold):
            await over.wait()
    finally:
        handle.close()
    if errors:
        raise errors[0]
