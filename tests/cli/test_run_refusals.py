"""What ``etcdleader run`` refuses, in the format of its log, and where it runs from."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.helpers.run_command import run

pytestmark = pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="needs Linux")


@pytest.mark.parametrize(
    ("words", "status", "message"),
    [
        (["no-such-command-here"], 127, "no-such-command-here: no such command"),
        (["./data"], 126, "./data: cannot be executed"),
        (["./script"], 127, "./script: No such file or directory"),
        (["--lease=10s", "--margin=9s", "true"], 78, "The settings are wrong: "),
        (
            ["--settings=no-such.toml", "--election=k", "true"],
            78,
            "The settings are wrong: no-such.toml: there is no such file",
        ),
        (["--http=203.0.113.1:80", "true"], 71, "--http: "),
    ],
)
def test_refusals_are_in_the_format_of_the_log(words: list[str], status: int, message: str, tmp_path: Path) -> None:
    """What reads the log reads one format."""
    (tmp_path / "data").write_text("")
    script = tmp_path / "script"
    script.write_text("#!/no/such/interpreter\n")
    script.chmod(0o755)
    done = run("--log-format=json", *words, cwd=tmp_path)
    line = json.loads(done.stderr.splitlines()[-1])
    assert (done.returncode, line["level"], line["logger"]) == (status, "error", "etcdleader.run")
    assert line["message"].startswith(message)
    assert {"time", "message"} <= line.keys()
    text = run(*words, cwd=tmp_path).stderr.splitlines()
    assert any(each.startswith(f"etcdleader: error: {message.strip()}") for each in text)
