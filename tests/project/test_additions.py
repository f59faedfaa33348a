"""Each step that CONTRIBUTING.md names for an addition has a test, and the page names only what exists."""

from __future__ import annotations

import re

import etcdleader
from etcdleader import EtcdLeaderError, errors
from etcdleader._managers import facts
from etcdleader.metrics import Metrics
from tests.helpers.paths import ROOT
from tools.code_pictures import PAGE, with_rooms

TEXT = PAGE.read_text(encoding="utf-8")
PACKAGE = ROOT / "src" / "etcdleader"


def test_the_table_of_rooms_is_that_of_the_package() -> None:
    assert with_rooms(TEXT) == TEXT, "the rooms have changed: run `make pictures` and commit CONTRIBUTING.md"


def test_every_file_that_the_page_names_exists() -> None:
    named = set(re.findall(r"`((?:src|tests|docs|config|tools)/[\w./]+)`", TEXT))
    assert len(named) > 30
    assert [name for name in sorted(named) if not (ROOT / name).exists()] == []


def test_every_test_that_the_page_names_exists() -> None:
    named = set(re.findall(r"`(test_\w+)`", TEXT))
    sources = "\n".join(path.read_text(encoding="utf-8") for path in sorted((ROOT / "tests").rglob("test_*.py")))
    assert len(named) > 10
    assert [name for name in sorted(named) if f"def {name}(" not in sources] == []


def test_every_public_error_can_be_imported_from_the_package() -> None:
    defined = {
        name
        for name, value in vars(errors).items()
        if isinstance(value, type) and issubclass(value, EtcdLeaderError) and not name.startswith("_")
    }
    assert defined == set(errors.__all__)
    assert defined <= set(etcdleader.__all__)


def test_every_event_is_emitted() -> None:
    """An event that no code emits is a number that is always 0."""
    events = {name for name, value in vars(Metrics).items() if callable(value) and not name.startswith("_")}
    emitted = {
        event
        for path in (PACKAGE / "_managers").glob("*.py")
        for event in re.findall(r"emit\(\s*Metrics\.(\w+)", path.read_text(encoding="utf-8"))
    }
    assert len(events) > 5
    assert emitted == events - {"bind"}


def test_the_documentation_lists_every_kind_of_error() -> None:
    """It is the value of a label and of an attribute, on which alerts depend."""
    page = (ROOT / "docs" / "monitoring.md").read_text(encoding="utf-8")
    (row,) = re.findall(r"^\| `etcdleader_etcd_errors_total` .+$", page, re.MULTILINE)
    (attribute,) = re.findall(r"^- `error.type` is .+$", page, re.MULTILINE)
    for _, kind in facts.KINDS:
        assert f"`{kind}`" in row
        assert f"`{kind}`" in attribute.replace("_OTHER", "other")
