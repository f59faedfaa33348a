"""Refusals of ``etcdleader run``, in the format of its log, and the places from which it runs."""

from __future__ import annotations

import compileall
import json
import shutil
import zipfile
from pathlib import Path

import pytest

from tests.helpers.paths import ROOT
from tests.helpers.run_command import run, run_after

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
        (["--http=203.0.113.1:80", "true"], 71, "--http cannot be served: "),
    ],
)
def test_refusals_are_in_the_format_of_the_log(words: list[str], status: int, message: str, tmp_path: Path) -> None:
    """A program that reads the log reads one format."""
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


def test_it_runs_from_a_zip(tmp_path: Path) -> None:
    """The supervisor is a separate program, and there is no file to start Python with."""
    package = ROOT / "src" / "etcdleader"
    for source in (True, False):
        path = tmp_path / f"{source}.zip"
        folder = tmp_path / str(source) / "etcdleader"
        shutil.copytree(package, folder, ignore=shutil.ignore_patterns("__pycache__"))
        if not source:
            assert compileall.compile_dir(folder, quiet=1, legacy=True)
        with zipfile.ZipFile(path, "w") as archive:
            for file in folder.rglob("*.py" if source else "*.pyc"):
                archive.write(file, file.relative_to(folder.parent))
        script = (
            f"import sys; sys.path.insert(0, {str(path)!r}); import etcdleader._cli; "
            f"assert etcdleader._cli.__file__.startswith({str(path)!r})"
        )
        done = run_after(script, "sh", "-c", "echo $ETCDLEADER_TOKEN; exit 3", cwd=tmp_path)
        assert (done.returncode, done.stdout) == (3, "0\n"), done.stderr


def test_a_frozen_program_reports_that_it_cannot_supervise(tmp_path: Path) -> None:
    """It would start itself as its supervisor."""
    done = run_after("import sys; sys.frozen = True", "true", cwd=tmp_path)
    assert done.returncode == 70
    assert "is a frozen program" in done.stderr
