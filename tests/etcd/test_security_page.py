"""The commands of the security page do what the page says they do."""

from __future__ import annotations

import os
import re
from pathlib import Path

import anyio
import pytest

from etcdleader import Config, EtcdConfig, EtcdLeaderError, EtcdLeaderManager, EtcdRefusedError
from etcdleader.etcd3 import etcd3
from etcdleader.testing import EtcdServer
from tests.etcd.certificates import Authority
from tests.helpers.paths import ROOT

pytestmark = pytest.mark.anyio

CONFIG = Config(enabled=True, id="page", lease=60, renew=20, retry=10)
PATIENCE = 30
PASSWORD = "canary-7f1b-page"
OPTIONS = ["--heartbeat-interval=20", "--election-timeout=200", "--bcrypt-cost=4"]
SECURITY_PAGE = ROOT / "docs" / "security.md"


class Page:
    """Runs the commands of the security page as they are printed there."""

    def __init__(self, server: EtcdServer, folder: Path, options: str = "") -> None:
        self._server = server
        self._folder = folder
        self._options = options
        blocks = re.findall(r"^```sh\n(.*?)^```", SECURITY_PAGE.read_text(), re.DOTALL | re.MULTILINE)
        self._lines = "".join(blocks).splitlines()
        for user, password in (("jobs", PASSWORD), ("root", "root")):
            (folder / f"{user}.password").write_text(f"{password}\n")

    async def run(self) -> None:
        path = f"{self._server.etcdctl.parent}{os.pathsep}{os.environ['PATH']}"
        scheme = "https" if self._options else "http"
        environment = {"ETCDCTL_API": "3", "ETCDCTL_ENDPOINTS": f"{scheme}://{self._server.endpoints[0]}"}
        for line in self._lines:
            command = line.replace("etcdctl", f"etcdctl{self._options}", 1)
            await anyio.run_process(["sh", "-c", command], cwd=self._folder, env={"PATH": path, **environment})


async def test_the_printed_role_is_enough_for_everything_and_for_nothing_else(tmp_path: Path) -> None:
    async with EtcdServer(extra_args=OPTIONS) as server:
        await Page(server, tmp_path).run()
        client = EtcdConfig(endpoints=server.endpoints, user="jobs", password=PASSWORD)
        await do_everything(client)


@pytest.mark.parametrize("user", ["jobs", None])
async def test_the_printed_role_serves_a_user_by_password_or_by_certificate_over_tls(
    tmp_path: Path, user: str | None
) -> None:
    authority = Authority(tmp_path / "ca")
    ours, theirs = authority.client("jobs-by-certificate"), authority.server()
    async with EtcdServer(
        extra_args=OPTIONS, cert=theirs.cert, key=theirs.key, client_ca=authority.cert if user is None else None
    ) as server:
        await Page(server, tmp_path, f" --cacert={authority.cert} --cert={ours.cert} --key={ours.key}").run()
        client = (
            EtcdConfig(server.endpoints, ca_cert=authority.cert, cert=ours.cert, key=ours.key)
            if user is None
            else EtcdConfig(server.endpoints, user, PASSWORD, ca_cert=authority.cert)
        )
        await do_everything(client)


async def do_everything(client: EtcdConfig) -> None:
    first, second = EtcdLeaderManager(client, CONFIG, "jobs"), EtcdLeaderManager(client, CONFIG, "jobs")
    errors: list[EtcdLeaderError] = []
    for manager in (first, second):
        manager.on_error(lambda manager, error: errors.append(error))
    with anyio.fail_after(PATIENCE):
        async with first, first.observe() as leaders:
            term = await first.wait_elected()
            async with second:
                while len(await second.candidates()) < 2:
                    await anyio.sleep(0.005)
                assert await first.extend(term) is term
                assert await first.leader() == await anext(leaders)
                assert (await term.transaction([etcd3.Transactions().put("report", "done")]))[0]
                for beyond in ("report2", "jobs", "jobs0", "jobs."):
                    with pytest.raises(EtcdRefusedError, match="permission denied"):
                        await term.transaction([etcd3.Transactions().put(beyond, "")])
                await first.resign()
                await second.wait_elected()
        assert await first.leader() is None
    assert errors == []
