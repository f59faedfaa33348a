"""Histories made by hand, for tests of the checker."""

from __future__ import annotations

from dataclasses import replace

from tests.faults.history import Belief, History, Injection, Key, Read, Work, Write

__all__ = ("belief", "good", "injection", "seen", "work")


def belief(token: int, start: float, end: float, subject: str = "c0", era: int = 0) -> Belief:
    return Belief(run=f"{subject}-1", subject=subject, token=token, start=start, end=end, era=era)


def seen(token: int, put: float, gone: float | None, gone_revision: int | None = None) -> Key:
    return Key(token=token, key=f"e/{token}", lease=token, put_seen=put, gone_seen=gone, gone_revision=gone_revision)


def work(token: int, start: float, end: float, subject: str = "c0", reason: str = "resigned") -> Work:
    return Work(
        run=f"{subject}-1", token=token, key=f"e/{token}", lease=token, start=start, end=end, ousted=1, reason=reason
    )


def good() -> History:
    """Return two terms, one after the other. The first one resigned. The lease is 8 s, renewed each second."""
    return History(
        lease=8,
        renew=1,
        retry=1,
        margin=1,
        beliefs=[belief(2, 10, 20), belief(3, 20.1, 30, "c1")],
        keys={(0, 2): seen(2, 9.9, 20.05, 9), (0, 3): seen(3, 9.95, None)},
        reads=[
            Read(sent=9, received=9.1, revision=1, owner=0),
            Read(sent=15, received=15.1, revision=5, owner=2),
            Read(sent=20.08, received=20.09, revision=9, owner=3),
            Read(sent=25, received=25.1, revision=12, owner=3),
        ],
        writes=[Write(revision=4, token=2), Write(revision=8, token=2), Write(revision=12, token=3)],
        works=[work(2, 10, 20.01), work(3, 20.1, 30, "c1")],
        keep_alives={
            ("c0", 2): [10.5 + number for number in range(10)],
            ("c1", 3): [10.7 + number for number in range(20)],
        },
    )


def injection(row: str, start: float, end: float, **facts: object) -> Injection:
    made = Injection(row=row, note="", start=start, end=end)
    return replace(made, **facts)  # type: ignore[arg-type]
