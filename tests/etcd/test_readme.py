"""The first program of the README runs as it is printed."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

from etcdleader.testing import EtcdServer
from tests.helpers.paths import ROOT

README = (ROOT / "README.md").read_text(encoding="utf-8")
FILE = re.compile(r"^`([^`\n]+)`, [^\n]*:\n\n```\w+\n(.*?)^```$", re.DOTALL | re.MULTILINE)
"""A file's name, some words, and what is in it."""
CUT = "..."
"""The end of a printed line that is longer."""
PRINTED = re.compile(r"^\$ python job\.py\n(.*?)^```$", re.DOTALL | re.MULTILINE)
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
