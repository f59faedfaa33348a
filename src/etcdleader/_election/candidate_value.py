"""The value of a candidate key: the identity, or a JSON object with the identity and the advertised value. Pure.

Value, name and lease together show whether an election library has put a key.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING

from ..model import LeaderRecord

if TYPE_CHECKING:
    from .._etcd.api import KeyValue
    from .._lease.leased_key import LeasedKey

_ID, _ADVERTISE = "id", "advertise"
_LEASE_NAME = re.compile(rb"[1-9a-f][0-9a-f]{0,15}")
"""The name of a candidate key below its prefix: a lease id in hex, without padding."""
_IDENTITY = re.compile(r".+#[0-9a-f]{8}", re.DOTALL)
"""The identity of an etcdleader."""


def encode_value(identity: str, advertised: str | None) -> bytes:
    """Return the value of a candidate key. Without an advertised value, it is the identity, as in etcd's Go client."""
    if advertised is None:
        return identity.encode()
    return json.dumps({_ID: identity, _ADVERTISE: advertised}, ensure_ascii=False).encode()


def decode_value(value: bytes) -> tuple[str, str | None]:
    """Return the identity and the advertised value of a candidate of any library.

    A value that is no JSON object with both as texts is an identity as a whole. UTF-8 errors in it are replaced.
    """
    if value.startswith(b"{"):
        try:
            parts = json.loads(value.decode())
        except (ValueError, RecursionError):
            parts = {}
        identity, advertised = parts.get(_ID), parts.get(_ADVERTISE)
        if isinstance(identity, str) and isinstance(advertised, str):
            return _printable_in_utf8(identity), _printable_in_utf8(advertised)
    return value.decode(errors="replace"), None


def is_candidate(prefix: bytes, kv: KeyValue) -> bool:
    """Return whether an election library has put this key directly below the prefix.

    It is named after its lease. When etcd has elected another leader, etcdleader moves a key to another lease, and the key
    keeps its name. The previous lease of a key cannot be read from etcd. So a moved key is recognized by its value, an
    identity. Its name alone is not enough: applications name keys after containers, or at random, in hex.
    """
    name = kv.key.removeprefix(prefix)
    if not kv.lease:
        return False
    if name == b"%x" % kv.lease:
        return True
    moved = kv.create_revision < kv.mod_revision and _LEASE_NAME.fullmatch(name) is not None
    return moved and _IDENTITY.fullmatch(decode_value(kv.value)[0]) is not None


def record_of(kv: KeyValue) -> LeaderRecord:
    """Return a candidate key as a record."""
    identity, advertised = decode_value(kv.value)
    return LeaderRecord(identity, kv.create_revision, kv.key.decode(errors="replace"), kv.lease, advertised)


def record_of_own(own: LeasedKey) -> LeaderRecord:
    """Return our own key as a record."""
    identity, advertised = decode_value(own.value)
    return LeaderRecord(identity, own.create_revision, own.key.decode(), own.lease_id, advertised)


def _printable_in_utf8(text: str) -> str:
    """Return a text without lone surrogates, which an escape in JSON may contain and which no stream can encode."""
    return text.encode(errors="replace").decode()
