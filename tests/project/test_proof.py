"""The model of the rule: each configuration is expected to give a result, and TLC is run on a few small ones."""

from __future__ import annotations

import re

import pytest

from proof import check
from proof.configurations import CONFIGURATIONS, HOLDS, VARIANTS, Configuration
from tests.helpers.paths import ROOT

PROOF = ROOT / "proof"
BOUNDS = {"Members", "Leases", "Lag"}
"""Constants that only say how much is explored."""


def constants(name: str) -> dict[str, str]:
    text = (PROOF / f"{name}.cfg").read_text()
    return dict(re.findall(r"^ {4}([A-Z]\w*) = (.+)$", text, re.MULTILINE))


def test_every_configuration_is_listed_and_every_listed_one_is_there() -> None:
    assert sorted(path.stem for path in PROOF.glob("*.cfg")) == sorted(entry.name for entry in CONFIGURATIONS)


def test_every_variant_of_the_rule_breaks_an_invariant_of_the_model() -> None:
    model = check.MODEL.read_text()
    expected = {entry.name: entry.expected for entry in CONFIGURATIONS}
    assert {expected[f"variant-{letter}"] for letter in VARIANTS} == {"KeyExists", "OneLeader"}
    for invariant in set(expected.values()) - {HOLDS}:
        assert re.search(rf"^{invariant} ==$", model, re.MULTILINE)


@pytest.mark.parametrize("entry", CONFIGURATIONS, ids=lambda entry: str(entry.name))
def test_a_configuration_changes_the_listed_constants_and_checks_its_invariants(entry: Configuration) -> None:
    rule, own = constants("rule"), constants(entry.name)
    assert own.keys() == rule.keys()
    assert {name for name in own if own[name] != rule[name]} - BOUNDS == entry.changes
    checked = re.findall(r"^INVARIANT (\w+)$", (PROOF / f"{entry.name}.cfg").read_text(), re.MULTILINE)
    assert checked == (["OneLeader"] if entry.expected == "OneLeader" else ["KeyExists", "OneLeader"])


def test_a_page_lists_every_configuration_with_its_expected_result() -> None:
    page = (ROOT / "docs" / "proof.md").read_text()
    rows = dict(re.findall(r"^\| `([\w-]+)` \|.*?\| (holds|KeyExists|OneLeader) \|", page, re.MULTILINE))
    assert rows == {entry.name: entry.expected for entry in CONFIGURATIONS}


HELD = """\
Model checking completed. No error has been found.
126771 states generated, 30523 distinct states found, 0 states left on queue.
The depth of the complete state graph search is 33.
"""
VIOLATED = """\
Error: Invariant KeyExists is violated.
1,145 states generated, 1,041 distinct states found, 30 states left on queue.
The depth of the complete state graph search is 18.
"""


@pytest.mark.parametrize(
    ("log", "outcome"),
    [
        (HELD, ("holds", 30523, 33)),
        (VIOLATED, ("KeyExists", 1041, 18)),
        ("Error: Invariant KeyExists is violated by the initial state:\n", ("KeyExists", 0, 0)),
        ("Error: TLC threw an unexpected exception.\n", ("FAILED", 0, 0)),
        ("stopped after 5 s\n", ("FAILED", 0, 0)),
    ],
)
def test_what_tlc_reports_is_read(log: str, outcome: tuple[str, int, int]) -> None:
    found = check.outcome_of(log, 1.0)
    assert (found.result, found.states, found.depth) == outcome


def test_a_result_that_is_not_expected_ends_the_run_with_1(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(check, "find_tlc", list)
    monkeypatch.setattr(check, "check", lambda entry, tlc: check.Outcome(HOLDS, 7, 3, 0.1))
    assert check.main(["rule"]) == 0
    assert check.main(["rule", "variant-a"]) == 1
    assert "variant-a is not as expected" in capsys.readouterr().out


def test_what_is_missing_is_named(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("PATH", "")
    assert check.main(["rule"]) == 2
    assert "The model cannot be checked: Java is not installed" in capsys.readouterr().err


@pytest.mark.parametrize("entry", [entry for entry in CONFIGURATIONS if entry.quick], ids=lambda entry: str(entry.name))
def test_tlc_finds_what_is_expected(entry: Configuration) -> None:
    try:
        tlc = check.find_tlc()
    except check.ToolError as error:
        pytest.skip(str(error).splitlines()[0])
    assert check.check(entry, tlc, time_limit=120).result == entry.expected
