"""The update of a key's value, on the same lease.

Each attempt is one Txn that compares create_revision, mod_revision and lease. So etcd applies at most one copy of it, even if
a response is lost. It applies no copy after a PUT by another client, or after a move. A move compares the same. So etcd
applies either the move or the update, and the other one is sent again.
"""

from __future__ import annotations

from typing import Protocol

import anyio

from .._etcd.api import Compare, LeaseNotFoundError, Put, Range, TxnResult
from ..errors import EtcdRefusedError, EtcdRegressedError, EtcdUnavailableError
from ..model import LossReason
from .key_owner import KeySession, read_own_key
from .shared_connection import SharedConnection


class UpdatedSession(KeySession, Protocol):
    """The part of a session that an update uses."""

    async def settled_lease(self, timeout: float) -> int:
        """Return the lease that the key is on, after the move that is in progress."""
        ...


async def update_value(session: UpdatedSession, connection: SharedConnection, value: bytes) -> None:
    """Put a value on the session's key, and return when etcd has it, or when the session has ended.

    At most one call for a session may be in progress.

    Raises:
        EtcdUnavailableError: etcd did not confirm the value within ``retry``. It may have the value, now or later.
        EtcdRefusedError: etcd refused the write.
        EtcdRegressedError: The cluster's revision went back, and the session has ended.
    """
    retry = session.timing.retry
    with anyio.move_on_after(retry) as bound:
        while session.loss_reason is None:
            await session.settled_lease(retry)
            if session.own.new_value is None:
                if session.own.value == value:
                    return
                session.own = session.own.updating(value)
                first = True
            else:
                # An earlier value is put again first: only a response shows whether etcd has applied that Txn.
                first = False
            await _try_update(session, connection, first=first)
    if bound.cancelled_caught:
        raise EtcdUnavailableError(f"etcd confirmed no new value of the key within {retry:g} s: try again")


async def _try_update(session: UpdatedSession, connection: SharedConnection, *, first: bool) -> None:
    own = session.own
    assert own.new_value is not None
    value = own.new_value
    compare = [
        Compare(own.key, "create", own.create_revision),
        # Without this compare, etcd could apply two copies of this Txn, and one would look like a step-down request.
        Compare(own.key, "mod", session.owner.mod_revision),
        Compare(own.key, "lease", own.lease_id),
    ]
    put, read = Put(own.key, value, own.lease_id), Range(own.key)
    try:
        result = await connection.call_limiter.run(
            lambda: connection.txn(compare, [put], [read], timeout=session.timing.retry)
        )
    except LeaseNotFoundError as error:
        session.invalidate(LossReason.REVOKED, error)
        return
    except EtcdRegressedError as error:
        session.invalidate(LossReason.REGRESSED, error)
        raise
    except EtcdRefusedError:
        if first and session.own.new_value == value:
            session.own = session.own.updating(None)  # there is no copy that etcd could still apply
        raise
    _on_response(session, result)


def _on_response(session: UpdatedSession, result: TxnResult) -> None:
    if session.loss_reason is not None:
        return
    if result.succeeded:
        # An event or a read may have shown the new value before.
        if session.own.new_value is not None:
            session.own = session.own.updated()
            session.owner.on_key_updated(result.header.revision)
        return
    kv = read_own_key(session, result)
    if kv is not None and kv.value != session.own.new_value:
        # The mod_revision has changed, so etcd can apply no copy of the Txn any more.
        session.own = session.own.updating(None)
