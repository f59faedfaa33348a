"""`make lint` checks the English of docs, docstrings and texts shown to people. CONTRIBUTING.md has the rules."""

from __future__ import annotations

from pathlib import Path

import pytest

from tools import english

ROOT = Path(__file__).parents[2]
LONG = " ".join(["word"] * (english.MOST_WORDS + 1))


def problems_in_module(tmp_path: Path, source: str) -> list[str]:
    path = tmp_path / "module.py"
    path.write_text(source, encoding="utf-8")
    return [problem for text in english.of_module(path) for problem in english.problems(text)]


def problems_in_page(tmp_path: Path, page: str) -> list[str]:
    path = tmp_path / "page.md"
    path.write_text(page, encoding="utf-8")
    return [problem for text in english.of_page(path) for problem in english.problems(text)]


@pytest.mark.parametrize(
    "source",
    [
        '"""The server thinks of a new stream."""',
        'def f() -> None:\n    """Whether it is open."""',
        "value = 1  # the peer knows it",
        'raise ValueError(f"{name} hears a message")',
        'typer.Option(help="Wait in vain.")',
        'TEXTS = {"lost": "the candidate waits in vain now"}',
        'yield _Line("the candidate waits in vain now")',
        'return f"etcd says {text}, in its log" if text else "there is no such text"',
        'log.warning("%s retries in vain", name)',
        f'"""{LONG}."""',
        f'"""Words.\n\n    Args:\n        name: {LONG}.\n    """',
    ],
)
def test_a_refused_word_or_a_long_sentence_in_a_module_is_found(tmp_path: Path, source: str) -> None:
    assert problems_in_module(tmp_path, source) != []


@pytest.mark.parametrize(
    "source",
    [
        '"""Return the leader."""',
        'whoever = "nobody"',  # code, and a string that no person reads
        'SCRIPT = "for each in one of them: print(who, end=sep)"',
        '"""Call ``nobody()`` to release leadership."""',
        f'"""{" ".join(["Word"] * english.MOST_WORDS)}. {" ".join(["Word"] * english.MOST_WORDS)}."""',
        '"""Run it::\n\n    ' + LONG + '\n"""',
    ],
)
def test_code_and_short_sentences_pass(tmp_path: Path, source: str) -> None:
    assert problems_in_module(tmp_path, source) == []


@pytest.mark.parametrize("page", ["Nobody leads.", f"- {LONG}.", f"| a | {LONG} |", f"A page\nof {LONG}."])
def test_a_page_is_checked_in_paragraphs_lists_and_tables(tmp_path: Path, page: str) -> None:
    assert problems_in_page(tmp_path, page) != []


@pytest.mark.parametrize(
    "page", [f"```\n{LONG} nobody\n```", "`nobody`", "[the log](#what-nobody-says)", "etcd 3.5.33 and 3.6.14"]
)
def test_code_links_and_versions_in_a_page_pass(tmp_path: Path, page: str) -> None:
    assert problems_in_page(tmp_path, page) == []


def problems_in_settings(tmp_path: Path, settings: str) -> list[str]:
    path = tmp_path / "settings.toml"
    path.write_text(settings, encoding="utf-8")
    return [problem for text in english.of_settings(path) for problem in english.problems(text)]


@pytest.mark.parametrize(
    "settings",
    [
        "# The candidate waits in vain.",
        f"# A comment\n# of {LONG}.\nkey = 1",
        'key = "value"  # the candidate waits in vain',
        '  summary: "The candidate waits in vain"',
        'name = "Only one module knows it"',
        f"  description: >-\n    A text\n    of {LONG}.\n  other: 1",
    ],
)
def test_comments_of_settings_and_texts_of_alerts_are_checked(tmp_path: Path, settings: str) -> None:
    assert problems_in_settings(tmp_path, settings) != []


@pytest.mark.parametrize(
    "settings",
    [
        'key = "in vain # in vain"',
        '# password = "in vain"',
        f"# An example:\n#\n#   {LONG}\n#\n# The end.",
        f"# {'Word ' * 20}.\n# {'Word ' * 20}.",
        "expr: in vain",
    ],
)
def test_values_and_examples_in_settings_pass(tmp_path: Path, settings: str) -> None:
    assert problems_in_settings(tmp_path, settings) == []


def test_titles_and_descriptions_of_a_dashboard_are_checked(tmp_path: Path) -> None:
    path = tmp_path / "dashboard.json"
    path.write_text(
        '{\n  "title": "Renewals in vain",\n  "expr": "in vain",\n  "description": "The candidate waits in vain."\n}'
    )
    assert [text.text for text in english.of_dashboard(path)] == ["Renewals in vain", "The candidate waits in vain."]


def test_there_are_at_most_twenty_exceptions_and_each_is_a_file_with_a_reason() -> None:
    assert len(english.EXCEPTIONS) <= 20
    for path, reason in english.EXCEPTIONS.items():
        assert (ROOT / path).is_file()
        assert reason
