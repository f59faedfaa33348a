"""The configurations of the model, and what TLC must report for each."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ("CONFIGURATIONS", "HOLDS", "VARIANTS", "Configuration")

HOLDS = "holds"
VARIANTS = "abcdefghijklm"
"""Each of them breaks one part of what the model has. docs/safety.md describes them."""


@dataclass(frozen=True)
class Configuration:
    """A ``.cfg`` file beside the model.

    Attributes:
        name: The name of the file, without its suffix.
        about: What it adds to the rule, or changes in it.
        expected: ``holds``, or the name of the invariant that TLC must find violated.
        changes: The constants whose values differ from those of ``rule``, without the bounds.
        quick: Whether the suite runs it, too.
    """

    name: str
    about: str
    expected: str = HOLDS
    changes: frozenset[str] = frozenset()
    quick: bool = False


def _holds(name: str, about: str, *changes: str, quick: bool = False) -> Configuration:
    return Configuration(name, about, HOLDS, frozenset(changes), quick)


def _breaks(name: str, about: str, *changes: str, expected: str = "KeyExists", quick: bool = False) -> Configuration:
    return Configuration(name, about, expected, frozenset(changes), quick)


CONFIGURATIONS = (
    _holds("rule", "the rule: one client, two terms, two leases"),
    _holds("small", "the same in the smallest bounds, for the suite", quick=True),
    _holds("three-terms", "two changes of etcd's leader", "Terms"),
    _holds("ttl-3", "leases of three ticks", "TTL"),
    _holds("fresh", "a client that has received no term at first", "Fresh"),
    _holds("restarts", "members that restart and report term 0", "Restarts"),
    _holds("snapshots", "followers that catch up by snapshots", "Snapshots"),
    _holds("snapshots-restarts", "both, with one lease", "Snapshots", "Restarts"),
    _holds("two-clients", "a leader and a candidate, without moves and proposals", "Clients", "Proposals"),
    _holds("move-any-time", "variant j with min(A, B)", "Move"),
    _holds("no-snapshots", "no proposal, where no follower needs a snapshot", "Proposals"),
    _holds(
        "late-term-two-proposals", "a member reports a term late; two proposals", "Snapshots", "LateTerm", "Proposals"
    ),
    _holds(
        "late-term-read-in-log",
        "a member reports a term late; the read is an entry, too",
        "Snapshots",
        "LateTerm",
        "Proposals",
        "ReadInLog",
    ),
    _holds("zero-with-proposal", "variant h with the proposal", "Restarts", "Fresh", "ZeroIsTerm"),
    _breaks("variant-a", "no move; renewals under a later term extend", "Move", "LaterExtends"),
    _breaks("variant-b", "the lease's term is that of the response to its grant", "TermFrom"),
    _breaks("variant-c", "renewals under a later term extend during the move", "LaterExtends"),
    _breaks("variant-d", "the old lease is revoked before the Txn is answered", "RevokeOld", quick=True),
    _breaks("variant-e", "the new lease is revoked, the Txn unanswered", "RevokeNew"),
    _breaks("variant-f", "no proposal; followers catch up by snapshots", "Proposals", "Snapshots"),
    _breaks("variant-g", "the keep-alive counts without a read", "Read", quick=True),
    _breaks("variant-h", "0 counts as a term; no proposal", "Restarts", "Fresh", "ZeroIsTerm", "Proposals"),
    _breaks("variant-i", "etcd promotes a lessor after it demoted it", "LatePromote"),
    _breaks("variant-j", "a move at any time, with the deadline of A alone", "Move", "WhileOpen"),
    _breaks("variant-k", "a deadline counts from the response, not from the request", "CreditFrom", "TTL"),
    _breaks("variant-l", "a member that lags may elect a candidate", "Clients", "StaleWin", expected="OneLeader"),
    _breaks("variant-m", "a leader that resigns acts while its leases are revoked", "Clients", "ReleaseFirst"),
    _breaks("three-voters", "no proposal on three voters; snapshots", "Proposals", "Snapshots"),
    _breaks("late-term", "a member reports a term late; one proposal", "Snapshots", "LateTerm"),
    _breaks("two-clients-variant-g", "two leaders at once, as in variant g", "Clients", "Read", expected="OneLeader"),
)
