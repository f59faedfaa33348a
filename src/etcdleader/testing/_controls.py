"""The controls of a fake etcd as a whole: what a test sets and observes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

from ._calls import CallKind, Hook
from ._store import Commit


class Controls:
    """The hooks, counters and settings of a fake etcd."""

    def __init__(self) -> None:
        self.hooks: list[Hook] = []
        """Functions, plain or async, that are called with each request.

        They are called when etcd has received the request, and again when it has been done. For the creation of a watch
        they are called once, before it. For the cancellation of a watch and a progress request they are not called. A
        hook's exception is raised in the call. For a request on a stream, it is raised when the fake is left.
        """
        self.commit_hooks: list[Callable[[Commit], None]] = []
        """Functions that are called with each commit, before any client can have received it. They must not raise."""
        self.calls: Counter[CallKind] = Counter()
        """The number of requests that all clients have sent, by kind."""
        self.version = "3.7.3"
        """The version that the members report."""
        self.no_space = False
        """True while the alarm NOSPACE is raised: puts and grants fail. Reads, keep-alives and revocations work."""
        self.fast_lease_keep_alive = True
        """True if etcd answers keep-alives before it has applied all committed entries.

        etcd 3.7 does so by default (``FastLeaseKeepAlive``). Otherwise a keep-alive waits until all of them are applied.
        """
        self.woken_leaders_revoke = True
        """True if a former leader, frozen or deposed, revokes the leases that have expired in its stale lessor.

        It does so when it recovers. True at first, as in every current etcd (etcd#15247). The releases 3.5.13 to 3.5.15
        do not do it. :meth:`FakeMember.freeze` describes which leases it revokes.
        """
