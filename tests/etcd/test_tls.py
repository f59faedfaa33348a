"""TLS with a real etcd: every kind of failure has its own message, and passes when it is mended."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread
import pytest

from etcdleader import Config, EtcdConfig, EtcdLeaderManager, EtcdRefusedError, EtcdUnavailableError, LossReason
from etcdleader._etcd.error_mapping import error_from_status
from etcdleader._etcd.tls_diagnosis import TlsDiagnosis
from etcdleader.testing import EtcdServer
from tests.etcd.certificates import Authority, Pair, encrypted

pytestmark = pytest.mark.anyio

# A call also looks into why it fails, for as long as `retry` lets it: on a busy machine two seconds are too short.
CONFIG = Config(enabled=True, id="tls", lease=60, renew=0.25, retry=8)
PATIENCE = 60
OPTIONS = ["--heartbeat-interval=20", "--election-timeout=200"]
BARE_TEXT = ("failed to connect to all addresses", "Socket closed", "rpc error", "_ssl.c")


class Life:
    """A record of what a manager's callbacks received."""

    def __init__(self, manager: EtcdLeaderManager) -> None:
        self.errors: list[Exception] = []
        self.lost: list[LossReason | None] = []
        manager.on_ousted(lambda manager, term: self.lost.append(term.loss_reason))
        manager.on_error(lambda manager, error: self.errors.append(error))

    def refused(self) -> list[str]:
        return [str(error) for error in self.errors if isinstance(error, EtcdRefusedError)]


async def until(holds: Callable[[], Any]) -> None:
    with anyio.fail_after(PATIENCE):
        while not holds():
            await anyio.sleep(0.005)


@dataclass(frozen=True)
class Site:
    """Etcds of several kinds, and certificates for and against them."""

    ours: Authority
    strange: Authority
    member: Pair
    plain: EtcdServer
    tls: EtcdServer
    mutual: EtcdServer
    expired: EtcdServer

    def client(self, server: EtcdServer, *, by_name: bool = False, **files: Any) -> EtcdConfig:
        (endpoint,) = server.endpoints
        return EtcdConfig(endpoint.replace("127.0.0.1", "localhost") if by_name else endpoint, **files)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("tls")
    ours, strange = Authority(folder / "ours"), Authority(folder / "strange")
    member, old = ours.server(), ours.server(expired=True)
    with (
        EtcdServer(extra_args=OPTIONS) as plain,
        EtcdServer(extra_args=OPTIONS, cert=member.cert, key=member.key) as tls,
        EtcdServer(extra_args=OPTIONS, cert=member.cert, key=member.key, client_ca=ours.cert) as mutual,
        EtcdServer(extra_args=OPTIONS, cert=old.cert, key=old.key) as expired,
    ):
        yield Site(ours, strange, member, plain, tls, mutual, expired)


def written(folder: Path, text: str) -> Path:
    path = folder / "file.pem"
    path.write_text(text)
    return path


def by_pair(site: Site, pair: Pair) -> EtcdConfig:
    return site.client(site.mutual, ca_cert=site.ours.cert, cert=pair.cert, key=pair.key)


def with_files(site: Site, cert: Path, key: Path) -> EtcdConfig:
    return by_pair(site, Pair(cert, key))


Made = Callable[[Site, Path], EtcdConfig]

REFUSALS: dict[str, tuple[Made, str]] = {
    "a certificate of an authority that we do not know": (
        lambda site, folder: site.client(site.tls, ca_cert=site.strange.cert),
        r"the certificate of 127\.0\.0\.1:\d+ was refused: .* \(ca_cert = '.*strange",
    ),
    "no authority given": (
        lambda site, folder: EtcdConfig(f"https://{site.tls.endpoints[0]}"),
        r"the certificate of 127\.0\.0\.1:\d+ was refused: .* \(no ca_cert is set\)",
    ),
    "a certificate for another name": (
        lambda site, folder: site.client(site.tls, by_name=True, ca_cert=site.ours.cert),
        r"the certificate of localhost:\d+ was refused: .*not valid for 'localhost'",
    ),
    "a member's certificate that has expired": (
        lambda site, folder: site.client(site.expired, ca_cert=site.ours.cert),
        r"the certificate of 127\.0\.0\.1:\d+ was refused: .*expired",
    ),
    "no client certificate where one is wanted": (
        lambda site, folder: site.client(site.mutual, ca_cert=site.ours.cert),
        r"127\.0\.0\.1:\d+ requires a client certificate: set cert and key",
    ),
    "a client certificate that has expired": (
        lambda site, folder: by_pair(site, site.ours.client("c", expired=True)),
        r"127\.0\.0\.1:\d+ refused cert = '.*': it expired on 20\d\d-\d\d-\d\d at",
    ),
    "a client certificate of an authority that etcd does not know": (
        lambda site, folder: by_pair(site, site.strange.client("c")),
        r"127\.0\.0\.1:\d+ refused cert = '.*': it may come from an authority that etcd does not trust",
    ),
    "plaintext to an etcd that speaks TLS": (
        lambda site, folder: site.client(site.tls),
        r"127\.0\.0\.1:\d+ speaks TLS: reach it by https://, or set ca_cert",
    ),
    "TLS to an etcd that speaks plaintext": (
        lambda site, folder: site.client(site.plain, ca_cert=site.ours.cert),
        r"127\.0\.0\.1:\d+ does not speak TLS",
    ),
    "a file that is not there": (
        lambda site, folder: site.client(site.tls, ca_cert=folder / "none.pem"),
        r"cannot read ca_cert = '.*none\.pem': No such file",
    ),
    "a folder for a file": (
        lambda site, folder: site.client(site.tls, ca_cert=folder),
        r"cannot read ca_cert = '.*': Is a directory",
    ),
    "an authority that is no PEM": (
        lambda site, folder: site.client(site.tls, ca_cert=written(folder, "canary-secret")),
        r"ca_cert = '.*file\.pem' holds no certificate in PEM",
    ),
    "a certificate that is no PEM": (
        lambda site, folder: with_files(site, written(folder, "canary-secret"), site.member.key),
        r"cert = '.*file\.pem' holds no certificate in PEM",
    ),
    "a key that is no PEM": (
        lambda site, folder: with_files(site, site.member.cert, written(folder, "canary-secret")),
        r"key = '.*file\.pem' holds no private key in PEM",
    ),
    "a key under a password": (
        lambda site, folder: with_files(site, site.member.cert, encrypted(site.member.key)),
        r"key = '.*' is encrypted",
    ),
    "the key of another certificate": (
        lambda site, folder: with_files(site, site.ours.client("c").cert, site.member.key),
        r"key = '.*' is not the key of cert = '.*'",
    ),
}


@pytest.mark.parametrize("what", REFUSALS)
async def test_a_wrong_setup_is_reported_once_by_its_own_message_and_the_candidate_continues(
    site: Site, election_key: str, tmp_path: Path, what: str
) -> None:
    make, words = REFUSALS[what]
    manager = EtcdLeaderManager(make(site, tmp_path), CONFIG, election_key)
    life = Life(manager)
    async with manager:
        await until(lambda: manager.statistics().etcd_errors >= 2 and bool(life.refused()))
        with pytest.raises(EtcdRefusedError, match=words), anyio.fail_after(PATIENCE):
            while True:
                with suppress(EtcdUnavailableError):  # a busy machine may not find the reason out in one attempt
                    await manager.leader()
    (reported,) = life.refused()
    assert not any(text in reported for text in (*BARE_TEXT, "canary"))
    with pytest.raises(EtcdRefusedError, match=words):
        raise next(error for error in life.errors if isinstance(error, EtcdRefusedError))


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
async def test_a_file_that_may_not_be_read_is_named(site: Site, election_key: str, tmp_path: Path) -> None:
    path = written(tmp_path, "canary-secret")
    path.chmod(0)
    manager = EtcdLeaderManager(site.client(site.tls, ca_cert=path), CONFIG, election_key)
    with pytest.raises(EtcdRefusedError, match=r"cannot read ca_cert = '.*': Permission denied"):
        await manager.leader()


async def test_a_candidate_with_a_certificate_is_elected_without_a_warning(site: Site, election_key: str) -> None:
    manager = EtcdLeaderManager(by_pair(site, site.ours.client("anybody")), CONFIG, election_key)
    life = Life(manager)
    async with manager:
        with anyio.fail_after(PATIENCE):
            await manager.wait_elected()
    assert life.errors == []


async def test_a_file_that_comes_later_is_found(site: Site, election_key: str, tmp_path: Path) -> None:
    path = tmp_path / "ca.pem"
    manager = EtcdLeaderManager(site.client(site.tls, ca_cert=path), CONFIG, election_key)
    life = Life(manager)
    async with manager:
        await until(life.refused)
        shutil.copy(site.ours.cert, path)
        with anyio.fail_after(PATIENCE):
            await manager.wait_elected()


async def test_a_closed_connection_without_a_tls_problem_gets_no_tls_explanation(site: Site) -> None:
    """If the diagnosis finds no fault in TLS, etcd is down."""
    good = EtcdConfig(site.tls.endpoints, ca_cert=site.ours.cert)
    assert await TlsDiagnosis(site.tls.endpoints[0], good).reason() is None
    assert await TlsDiagnosis(site.plain.endpoints[0], EtcdConfig(site.plain.endpoints)).reason() is None
    listener = await anyio.create_tcp_listener(local_host="127.0.0.1")
    closed = f"127.0.0.1:{listener.extra(anyio.abc.SocketAttribute.local_port)}"
    await listener.aclose()
    assert await TlsDiagnosis(closed, EtcdConfig(closed)).reason() is None
    assert await TlsDiagnosis(closed, EtcdConfig(closed, ca_cert=site.ours.cert)).reason() is None


@pytest.mark.parametrize(
    ("text", "meaning"),
    [
        ("Ssl handshake failed: SSL_ERROR_SSL: error:1000007d:CERTIFICATE_VERIFY_FAILED", "was refused: "),
        ("Peer name etcd-1 is not in peer certificate", "is for another name: "),
        ("Custom verification check failed with error: Hostname Verification Check failed.", "is for another name: "),
        ("SSL_ERROR_SSL: error:100000f7:WRONG_VERSION_NUMBER", "does not speak TLS: "),
        ("SSL_ERROR_SSL: error:10000416:SSLV3_ALERT_CERTIFICATE_UNKNOWN", "see cert and key: "),
        ("Failed to create security handshaker.", "no TLS connection: "),
    ],
)
def test_grpcs_error_of_a_handshake_is_explained_and_kept(text: str, meaning: str) -> None:
    """Streams have only these texts. They are those of several releases."""
    error = error_from_status("UNAVAILABLE", text, "etcd-1:2379")
    assert isinstance(error, EtcdRefusedError)
    assert str(error).startswith("no TLS connection: ")
    assert f"{meaning}{text}" in str(error)


class Rotation:
    """An etcd with client certificates, and all files replaced by those of a new authority when it is down."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.member, self.client = Pair(folder / "m.pem", folder / "m.key"), Pair(folder / "c.pem", folder / "c.key")
        self.ca = folder / "ca.pem"
        self.replace(0)
        self.server = EtcdServer(
            extra_args=OPTIONS, cert=self.member.cert, key=self.member.key, client_ca=self.ca, start_timeout=PATIENCE
        )

    def replace(self, number: int) -> None:
        authority = Authority(self._folder / str(number))
        for new, old in ((authority.server(), self.member), (authority.client("anybody"), self.client)):
            shutil.copy(new.cert, old.cert)
            shutil.copy(new.key, old.key)
        shutil.copy(authority.cert, self.ca)

    @property
    def config(self) -> EtcdConfig:
        return EtcdConfig(self.server.endpoints, ca_cert=self.ca, cert=self.client.cert, key=self.client.key)


@pytest.mark.parametrize("lease", [60, 4], ids=["within the lease", "longer than the lease"])
async def test_certificates_of_a_new_authority_are_picked_up_by_a_manager_that_runs(
    tmp_path: Path, election_key: str, lease: int
) -> None:
    rotation = Rotation(tmp_path)
    async with rotation.server as server:
        (member,) = server.members
        config = Config(enabled=True, id="tls", lease=lease, renew=0.5, retry=0.5)
        manager = EtcdLeaderManager(rotation.config, config, election_key)
        life = Life(manager)
        async with manager:
            with anyio.fail_after(PATIENCE):
                term = await manager.wait_elected()
            member.kill()
            rotation.replace(1)
            if lease == 4:
                await until(lambda: life.lost)
            await anyio.to_thread.run_sync(member.restart)
            renewals = manager.statistics().renewals
            await until(lambda: manager.statistics().renewals > renewals)
            if lease == 4:
                with anyio.fail_after(PATIENCE):
                    assert (await manager.wait_elected()).token > term.token
                assert life.lost == [LossReason.EXPIRED]
            else:
                assert manager.term is term
        # A connection that was begun before the files were replaced may have met the new certificate.
        assert len(life.refused()) <= 1


async def test_a_member_that_returns_with_an_untrusted_certificate_is_reported_while_leading(
    tmp_path: Path, election_key: str
) -> None:
    """A leader's own calls are keep-alives on a stream, of which nothing is known but what gRPC says."""
    rotation = Rotation(tmp_path)
    async with rotation.server as server:
        (member,) = server.members
        ca = tmp_path / "kept.pem"
        shutil.copy(rotation.ca, ca)
        manager = EtcdLeaderManager(
            EtcdConfig(server.endpoints, ca_cert=ca, cert=rotation.client.cert, key=rotation.client.key),
            CONFIG,
            election_key,
        )
        life = Life(manager)
        async with manager:
            with anyio.fail_after(PATIENCE):
                term = await manager.wait_elected()
            member.kill()
            rotation.replace(1)
            await anyio.to_thread.run_sync(member.restart)
            await until(life.refused)
            assert "no TLS connection: the member's certificate comes from an authority" in life.refused()[0]
            shutil.copy(rotation.ca, ca)
            renewals = manager.statistics().renewals
            await until(lambda: manager.statistics().renewals > renewals)
            assert manager.term is term
        assert len(life.refused()) == 1
