"""Certificates made for a test, good and bad ones, and an etcd that uses them."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import trustme
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

__all__ = ("Authority", "Pair", "encrypted", "jwt_key")


@dataclass(frozen=True)
class Pair:
    """A certificate and its key, as files."""

    cert: Path
    key: Path


class Authority:
    """A separate CA, in a separate folder."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self._ca = trustme.CA()
        self.cert = folder / "ca.pem"
        self._ca.cert_pem.write_to_path(self.cert)

    def server(self, *names: str, expired: bool = False) -> Pair:
        """A member's; by default for 127.0.0.1."""
        return self._issue("server", *(names or ("127.0.0.1",)), expired=expired)

    def client(self, common_name: str, *, expired: bool = False) -> Pair:
        """A client's. etcd takes the common name for its user."""
        return self._issue("client", "client.invalid", common_name=common_name, expired=expired)

    def _issue(self, kind: str, *names: str, common_name: str | None = None, expired: bool) -> Pair:
        now = datetime.now(UTC)
        begin, end = (now - timedelta(days=2), now - timedelta(days=1)) if expired else (None, now + timedelta(days=1))
        leaf = self._ca.issue_cert(*names, common_name=common_name, not_before=begin, not_after=end)
        stem = f"{kind}{len(list(self._folder.iterdir()))}"
        pair = Pair(self._folder / f"{stem}.pem", self._folder / f"{stem}.key")
        leaf.private_key_pem.write_to_path(pair.key)
        for number, blob in enumerate(leaf.cert_chain_pems):
            blob.write_to_path(pair.cert, append=number > 0)
        return pair


def encrypted(key: Path) -> Path:
    """The same key, under a password."""
    private = serialization.load_pem_private_key(key.read_bytes(), None)
    path = key.with_suffix(".encrypted")
    path.write_bytes(
        private.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.BestAvailableEncryption(b"a password"),
        )
    )
    return path


def jwt_key(folder: Path) -> str:
    """Return the keys with which etcd signs its tokens, as a part of ``--auth-token``."""
    private = rsa.generate_private_key(65537, 2048)
    secret, public = folder / "jwt.key", folder / "jwt.pub"
    secret.write_bytes(
        private.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.TraditionalOpenSSL,
            serialization.NoEncryption(),
        )
    )
    public.write_bytes(
        private.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    )
    return f"priv-key={secret},pub-key={public},sign-method=RS256"
