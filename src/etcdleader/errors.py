"""The errors of etcdleader, named by what the reader should do about them.

There is one root, :class:`EtcdLeaderError`. No gRPC or dynaconf exception leaves the library: each is translated
once, where it comes in, with the original as ``__cause__``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .model import Term

__all__ = (
    "ConfigError",
    "EtcdLeaderError",
    "EtcdRefusedError",
    "EtcdRegressedError",
    "EtcdUnavailableError",
    "LeadershipLostError",
    "NotLeaderError",
)


class EtcdLeaderError(Exception):
    """Root of every error that etcdleader raises on its own account."""

    _elsewhere = False
    """Whether another member of the cluster may answer otherwise."""
    _follows_loss = False
    """Whether the end of a term causes it: raised by the work after that end, it does not end the campaign."""


class ConfigError(EtcdLeaderError, ValueError):
    """The configuration is wrong: mend the settings, then start again.

    One error names every fault found, each with the setting, its value (never a secret's) and what would do.

    Attributes:
        problems: One line for each fault.
    """

    def __init__(self, *problems: str) -> None:
        self.problems: tuple[str, ...] = problems
        super().__init__(*problems)

    def __str__(self) -> str:
        if len(self.problems) <= 1:
            return "".join(self.problems)
        return f"{len(self.problems)} problems:\n" + "\n".join(f"- {problem}" for problem in self.problems)


class NotLeaderError(EtcdLeaderError):
    """This manager does not lead, so what was asked for may not be done."""

    _follows_loss = True


class LeadershipLostError(NotLeaderError):
    """This manager led and does so no longer; its work must not go on.

    Attributes:
        term: The term that ended. ``term.loss_reason`` says why.
    """

    def __init__(self, term: Term) -> None:
        self.term = term
        super().__init__(term)

    def __str__(self) -> str:
        reason = self.term.loss_reason
        why = reason.name if reason is not None else "EXPIRED"
        return f"{self.term.identity} no longer leads {self.term.election!r} (token {self.term.token}): {why}"


class EtcdUnavailableError(EtcdLeaderError):
    """etcd did not answer, or could not do what was asked just now: try again later.

    The outcome of the call is *unknown*: a request whose answer was lost may have been applied, and so may one that
    etcd answered with an error (etcd 3.5 reports "no space" for the very put that it applied).
    """

    _elsewhere = True


class EtcdRefusedError(EtcdLeaderError):
    """etcd refused: user, password, permission or certificate is wrong. Trying again changes nothing by itself."""


class EtcdRegressedError(EtcdLeaderError):
    """The etcd cluster went back in time: it was wiped, or restored from an old backup.

    Tokens are revisions, so they would start again from below and a late writer of the past could pass for a new one.
    The campaign ends with this error, so that a person looks before anybody leads on.

    Attributes:
        cluster_id: The cluster that answered.
        known: The highest revision known before the request was sent.
        found: The revision in the answer.
    """

    def __init__(self, cluster_id: int, known: int, found: int) -> None:
        self.cluster_id = cluster_id
        self.known = known
        self.found = found
        super().__init__(cluster_id, known, found)

    def __str__(self) -> str:
        return (
            f"etcd cluster {self.cluster_id:x} answered at revision {self.found}, but revision {self.known} was seen "
            "before: it was wiped or restored from a backup, and fencing tokens would go backwards"
        )
