"""The schedule of a violated invariant, read from TLC's output, words in words and drawn."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import pytest

from proof import check, timeline
from proof.configurations import CONFIGURATIONS
from proof.trace import parse_value, read_states, steps


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("2", 2),
        ("TRUE", True),
        ("m1", "m1"),
        ('"keep-alive"', "keep-alive"),
        ("<<>>", []),
        ('<<<<1, "grant", 1, 1, 0>>, <<2, "first", 0, 0, 0>>>>', [[1, "grant", 1, 1, 0], [2, "first", 0, 0, 0]]),
        ("{m1, m2}", frozenset({"m1", "m2"})),
        ("{}", frozenset()),
        ('[lease |-> <<"live">>, key |-> <<0>>]', {"lease": ["live"], "key": [0]}),
        ("( m1 :> <<1>> @@\n  m2 :> <<0>> )", {"m1": [1], "m2": [0]}),
    ],
)
def test_a_value_of_tlc_is_parsed(text: str, value: Any) -> None:
    assert parse_value(text) == value


def test_text_behind_a_value_is_refused() -> None:
    with pytest.raises(ValueError, match="not one value of TLA"):
        parse_value("1 2")


def test_without_a_violation_there_is_no_schedule() -> None:
    assert read_states("Model checking completed. No error has been found.") == []


def test_a_picture_of_what_was_not_checked_names_the_command(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(timeline, "BUILD", tmp_path)
    assert timeline.main(["variant-a"]) == 2
    assert "python -m proof.check variant-a" in capsys.readouterr().err
    (tmp_path / "variant-a.log").write_text("Model checking completed. No error has been found.")
    assert timeline.main(["variant-a"]) == 1


def test_the_schedule_of_a_violation_is_told_and_drawn(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Without a read, a keep-alive that the woken member acknowledges extends the trust."""
    try:
        tlc = check.find_tlc()
    except check.ToolError as error:
        pytest.skip(str(error).splitlines()[0])
    monkeypatch.setattr(check, "BUILD", tmp_path)
    monkeypatch.setattr(timeline, "BUILD", tmp_path)
    (entry,) = (one for one in CONFIGURATIONS if one.name == "variant-g")
    assert check.check(entry, tlc, time_limit=120).result == entry.expected
    words = [step.text for step in steps(read_states((tmp_path / "variant-g.log").read_text()))]
    assert words[0] == "the beginning"
    assert "the client sends a keep-alive" in words
    assert "the client's renewal counts" in words
    assert words[-1] == "etcd commits the revocation of lease 1"
    assert not any("changes nothing" in text for text in words)
    assert timeline.main(["variant-g"]) == 0
    picture = ET.parse(tmp_path / "variant-g.svg")
    assert capsys.readouterr().out.strip() == str(tmp_path / "variant-g.svg")
    texts = [element.text for element in picture.iter() if element.tag.endswith("text")]
    assert set(words) <= set(texts)
    assert texts[-1] == "A client still trusts its lease, and its key is gone: another candidate can lead."
