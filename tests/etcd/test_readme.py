"""The first program and the loop of the README run as they are printed."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import anyio
import pytest

from etcdleader import Config, EtcdLeaderManager, LeadershipLostError, NotLeaderError, Term
from etcdleader.testing import EtcdServer
from tests.helpers.paths import ROOT

README = (ROOT / "README.md").read_text(encoding="utf-8")
FILE = re.compile(r"^`([^`\n]+)`, [^\n]*:\n\n```\w+\n(.*?)^```$", re.DOTALL | re.MULTILINE)
"""A file's name, some words, and what is in it."""
CUT = "..."
"""The end of a printed line that is longer."""
PRINTED = re.compile(r"^\$ python job\.py\n(.*?)^```$", re.DOTALL | re.MULTILINE)
LOOP = re.compile(r"^```python\n(async with manager:\n    while True:\n.*?)^```$", re.DOTALL | re.MULTILINE)
PRINTED_ENDPOINT = '"127.0.0.1:2379"'


def test_the_first_program_runs_to_its_end_as_it_is_printed(etcd_server: EtcdServer, tmp_path: Path) -> None:
    """A reader tries this first: two files in an empty folder. Only the endpoint differs."""
    files = dict(FILE.findall(README))
    assert list(files) == ["config/settings.toml", "job.py"]
    assert files["config/settings.toml"].count(PRINTED_ENDPOINT) == 1
    for name, content in files.items():
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(content.replace(PRINTED_ENDPOINT, f'"{etcd_server.endpoints[0]}"'), encoding="utf-8")
    environment = {name: value for name, value in os.environ.items() if not name.startswith("ETCDLEADER_")}

    done = subprocess.run(
        [sys.executable, "-W", "error", "job.py"],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )

    assert done.returncode == 0, done.stderr
    lines, printed = like_printed(done.stderr), like_printed(PRINTED.findall(README)[0])
    assert [
        line if beginning == line else f"{line[: len(beginning) - len(CUT)]}{CUT}"
        for line, beginning in zip(lines, printed, strict=True)
    ] == printed


def like_printed(output: str) -> list[str]:
    """The lines without what differs from run to run: the time, the identity and the token."""
    assert len(set(re.findall(r"token (\d+)", output))) == 1
    replaced = re.sub(r"^\d\d:\d\d:\d\d", "TIME", output, flags=re.MULTILINE)
    return re.sub(r"token \d+", "token N", re.sub(r"\S+#[0-9a-f]{8}\b", "IDENTITY", replaced)).splitlines()


@pytest.mark.anyio
async def test_the_printed_loop_leads_again_after_a_loss_and_ends_with_the_campaign(
    etcd_server: EtcdServer, election_key: str
) -> None:
    config = Config(enabled=True, id="loop", lease=20, renew=1, retry=2)
    manager = EtcdLeaderManager(etcd_server.config, config, election_key)
    terms: list[Term] = []

    async def job(term: Term) -> None:
        terms.append(term)
        if len(terms) == 2:
            return  # the block is left, and the term continues
        if len(terms) == 3:
            group.start_soon(manager.stop)
        else:
            group.start_soon(manager.resign)
        await anyio.sleep_forever()

    (printed,) = LOOP.findall(README)
    names: dict[str, Any] = {"manager": manager, "job": job, "LeadershipLostError": LeadershipLostError}
    exec("async def loop():\n" + textwrap.indent(printed, "    "), names)
    with anyio.fail_after(60):
        async with anyio.create_task_group() as group:
            with pytest.raises(NotLeaderError, match="has ended"):
                await names["loop"]()
    first, second, third = terms
    assert first is not second is third
    assert second.token > first.token
    assert await manager.leader() is None
