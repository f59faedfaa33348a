"""The errors of etcdleader, named by the remedy.

They have one root, :class:`EtcdLeaderError`. No exception of gRPC or dynaconf leaves the library: each is mapped once, where
it enters, with the original as ``__cause__``.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .model import Term

__all__ = (
    "ConfigError",
    "EtcdLeaderError",
    "EtcdRefusedError",
    "EtcdRegressedError",
    "EtcdUnavailableError",
    "HandOverError",
    "LeadershipLostError",
    "NotLeaderError",
)


class EtcdLeaderError(Exception):
    """The root of all errors that etcdleader raises.

    Attributes:
        retry_other_endpoint: True if another member of the cluster may succeed.
        caused_by_loss: True if the end of a term causes this error. Work that raises it after that end does not end the
            campaign.
    """

    retry_other_endpoint: bool = False
    caused_by_loss: bool = False


class ConfigError(EtcdLeaderError, ValueError):
    """The configuration is wrong: correct the settings, then start again.

    One error reports all problems, each with the setting, its value (never a secret) and the remedy.

    Attributes:
        problems: One line for each problem.
    """

    def __init__(self, *problems: str) -> None:
        self.problems: tuple[str, ...] = problems
        super().__init__(*problems)

    def __str__(self) -> str:
        if len(self.problems) <= 1:
            return "".join(self.problems)
        return f"{len(self.problems)} problems:\n" + "\n".join(f"- {problem}" for problem in self.problems)


class NotLeaderError(EtcdLeaderError):
    """This manager does not lead, so the call is refused."""

    caused_by_loss = True


class LeadershipLostError(NotLeaderError):
    """This manager has lost leadership; its work must not continue.

    Attributes:
        term: The term that ended. ``term.loss_reason`` is the reason.
    """

    def __init__(self, term: Term) -> None:
        self.term = term
        super().__init__(term)

    def __str__(self) -> str:
        reason = self.term.loss_reason
        why = reason.name if reason is not None else "EXPIRED"
        return f"{self.term.identity} no longer leads {self.term.election!r} (token {self.term.token}): {why}"


class HandOverError(EtcdLeaderError):
    """Leadership was not handed over to the named candidate, and has not changed.

    Attributes:
        ahead: The identities of candidates that stay in front of the named one. They did not answer the request to queue
            again, or are of another library. Empty if there is another reason.
    """

    def __init__(self, text: str, ahead: Sequence[str] = ()) -> None:
        self.ahead = tuple(ahead)
        super().__init__(text, self.ahead)

    def __str__(self) -> str:
        return str(self.args[0])


class EtcdUnavailableError(EtcdLeaderError):
    """etcd did not answer, or could not serve the request now: try again later.

    The outcome of the call is *unknown*. A request without a response may have been applied. So may a request that etcd
    answered with an error: etcd 3.5 reports "no space" for a put that it applied.
    """

    retry_other_endpoint = True


class EtcdRefusedError(EtcdLeaderError):
    """etcd refused the request: correct the user, password, permission or certificate. A retry alone does not help."""


class EtcdRegressedError(EtcdLeaderError):
    """The revision of the etcd cluster has decreased: the cluster was wiped, or restored from an old backup.

    Tokens are revisions. They would start again from a lower number, and a late writer could pass for a new leader. So the
    campaign ends with this error, and an operator decides how to continue.

    Attributes:
        cluster_id: The id of the cluster.
        known: The highest revision known before the request was sent.
        found: The revision in the response.
    """

    def __init__(self, cluster_id: int, known: int, found: int) -> None:
        self.cluster_id = cluster_id
        self.known = known
        self.found = found
        super().__init__(cluster_id, known, found)

    def __str__(self) -> str:
        return (
            f"etcd cluster {self.cluster_id:x} answered at revision {self.found}, after revision {self.known}: "
            "it was wiped or restored from a backup, and fencing tokens would go backwards"
        )
