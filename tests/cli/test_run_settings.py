"""``etcdleader run`` with settings that are missing, misspelled or off."""

from __future__ import annotations

import inspect
import re
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from etcdleader import Config
from etcdleader._cli.run.command import setting_options
from etcdleader._cli.run.settings import make_manager, resolve_run
from etcdleader._settings.known import option_of
from etcdleader._settings.sources import Overrides
from etcdleader._values.kinds import Kind, kinds
from etcdleader.errors import ConfigError
from tests.helpers.paths import ROOT
from tests.helpers.run_command import run

TYPED_RUN = Overrides(enabled_by_default=True)

pytestmark = pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="needs Linux")


@pytest.mark.parametrize("section", ["leeder", "sync.election", "", "etcd", "leader."])
def test_a_section_that_was_named_must_exist(section: str, tmp_path: Path) -> None:
    """Its ``enabled = false`` would be dropped, and the command would lead with the defaults."""
    file = tmp_path / "own.toml"
    file.write_text('[leader]\nenabled = false\n[etcd]\nendpoints = ["a:1"]\n')
    with pytest.raises(ConfigError, match="section"):
        resolve_run("k", file, section, Overrides({"lease": "30s"}, enabled_by_default=True))


@pytest.mark.parametrize("words", [["--section", "leeder"], ["--section", ""], ["--section=leeder", "--lease=30s"]])
def test_a_wrong_section_has_the_status_of_wrong_settings(words: list[str], tmp_path: Path) -> None:
    done = run(*words, "--election=k", "--endpoint=127.0.0.1:1", "touch", "ran", cwd=tmp_path)
    assert done.returncode == 78
    assert "section" in done.stderr
    assert not (tmp_path / "ran").exists()


def test_without_any_table_the_defaults_will_do(tmp_path: Path) -> None:
    """``run`` needs an election and an endpoint, both of which the command line may give."""
    file = tmp_path / "own.toml"
    file.write_text('[other]\nenabled = false\n[etcd]\nendpoints = ["a:1"]\n')
    assert make_manager(resolve_run("k", file, None, TYPED_RUN)).config == Config(enabled=True)


def test_the_null_device_is_a_file_without_settings(tmp_path: Path) -> None:
    (tmp_path / "settings.toml").write_text("[leader]\nenabled = false\n")
    line = Overrides(endpoints=["a:1"], enabled_by_default=True)
    assert make_manager(resolve_run("k", Path("/dev/null"), None, line)).config == Config(enabled=True)


def test_a_table_with_a_misspelled_name_is_not_passed_over(tmp_path: Path) -> None:
    """It may hold ``enabled = false``."""
    file = tmp_path / "own.toml"
    file.write_text('[leeder]\nenabled = false\n[etcd]\nendpoints = ["a:1"]\n')
    with pytest.raises(ConfigError, match=r"did you mean \[leeder\] in .*own.toml"):
        resolve_run("k", file, None, TYPED_RUN)


def test_each_thing_that_is_missing_names_the_option_that_gives_it(tmp_path: Path) -> None:
    """There is no program that could give an argument."""
    file = tmp_path / "own.toml"
    file.write_text("")
    with pytest.raises(ConfigError) as wrong:
        resolve_run(None, file, None, TYPED_RUN)
    key, etcd = wrong.value.problems
    assert key == "election_key is missing: give it as --election NAME or as leader.election_key"
    assert etcd.startswith("there is no [etcd] section")
    assert etcd.endswith("or use --endpoint HOST:PORT")


def test_a_warning_names_the_setting_that_switches_the_election_off(tmp_path: Path) -> None:
    """The command runs on every machine then, which an operator of ``run`` does not expect."""
    (warning, _) = run("true", cwd=tmp_path).stderr.splitlines()
    assert warning == (
        "etcdleader: warning: election is off: enabled = false from ETCDLEADER_LEADER__ENABLED; "
        "the command runs on each machine that has this setting"
    )
    (tmp_path / "own.toml").write_text("[jobs]\nenabled = false\n")
    (warning, _) = run("--settings=own.toml", "--section=jobs", "true", cwd=tmp_path).stderr.splitlines()
    assert "enabled = false from own.toml;" in warning


def test_each_setting_with_a_help_text_is_an_option(tmp_path: Path) -> None:
    """A new one needs no list of options."""
    helped = {field.name: field.metadata["help"] for field in fields(Config) if "help" in field.metadata}
    assert {"id", "lease", "retry", "renew", "margin"} <= helped.keys()
    shown = " ".join(run("--help", cwd=tmp_path).stdout.replace("│", " ").split())
    for name, text in helped.items():
        words = {Kind.DURATION: " DURATION", Kind.FLAG: f" --no-{option_of(name)[2:]}"}.get(
            kinds(Config)[name], " TEXT"
        )
        assert f"{option_of(name)}{words} {text}" in shown


def test_the_page_names_the_options_that_override_settings() -> None:
    """A new setting with a help text becomes an option, and its name belongs in this sentence."""
    helped = [option_of(field.name) for field in fields(Config) if "help" in field.metadata]
    page = (ROOT / "docs/run.md").read_text(encoding="utf-8")
    (sentence,) = re.findall(r"`--id`, [^.]* override them\.", page)
    assert set(re.findall(r"`(--[a-z-]+)`", sentence)) == {*helped, "--endpoint"}


@pytest.mark.parametrize(
    ("words", "given"),
    [([], None), (["--loud-voice"], True), (["--no-loud-voice"], False), (["--loud-voice", "--text=x"], True)],
)
def test_a_flag_with_a_help_text_takes_no_word(words: list[str], given: bool | None) -> None:
    """As an option with a text it would take the next word, which may be the command."""

    @dataclass
    class New:
        loud_voice: bool = field(metadata={"help": "Be loud."})
        text: str = field(metadata={"help": "Any text."})

    received: list[object] = []

    def command(command: list[str], **options: Any) -> None:
        received.extend((command, options["loud_voice"]))

    own, _ = inspect.signature(command, eval_str=True).parameters.values()
    vars(command)["__signature__"] = inspect.Signature([own, *setting_options(New)])
    app = typer.Typer()
    app.command()(command)
    done = CliRunner().invoke(app, [*words, "true", "x"])
    assert (done.exit_code, received) == (0, [["true", "x"], given]), done.output
