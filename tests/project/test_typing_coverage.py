"""Every public name is used in tests/typing, where mypy and pyright report what they would report to a user."""

from __future__ import annotations

import ast
import importlib
import inspect
import pkgutil
import textwrap
from collections.abc import Iterator
from dataclasses import fields, is_dataclass

import pytest

import etcdleader
from tests.helpers.paths import ROOT

USES = ROOT / "tests" / "typing"


def public_modules() -> list[str]:
    modules = [module.name for module in pkgutil.walk_packages(etcdleader.__path__, "etcdleader.")]
    return ["etcdleader", *(name for name in modules if "._" not in name)]


def public_names(module: str) -> Iterator[tuple[str, str]]:
    """Return the public names of a module and of the classes that it exports, as they are shown and as they are written."""
    loaded = importlib.import_module(module)
    for name in loaded.__all__:
        exported = getattr(loaded, name)
        yield f"{module}.{name}", name
        if inspect.isclass(exported):
            for attribute in attributes(exported):
                yield f"{module}.{name}.{attribute}", attribute


def attributes(exported: type) -> set[str]:
    """Return the attributes of one of our classes: the class's own, its fields, and those that its methods set on ``self``."""
    found: set[str] = set()
    for ours in (base for base in exported.__mro__ if base.__module__.startswith("etcdleader")):
        found |= {name for name in (*vars(ours), *vars(ours).get("__annotations__", ())) if not name.startswith("_")}
        if is_dataclass(ours):
            found |= {field.name for field in fields(ours) if not field.name.startswith("_")}
        found |= {name for name in set_on_self(ours) if not name.startswith("_")}
    return found


def set_on_self(ours: type) -> set[str]:
    tree = ast.parse(textwrap.dedent(inspect.getsource(ours)))
    return {
        node.attr
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute)
        and isinstance(node.ctx, ast.Store)
        and isinstance(node.value, ast.Name)
        and node.value.id == "self"
    }


def used(source: str) -> set[str]:
    """A name that is imported or defined only is not used."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.Name(id=name) | ast.Attribute(attr=name) | ast.keyword(arg=str(name)):
                found.add(name)
            case _:
                pass
    return found


@pytest.mark.parametrize("module", public_modules())
def test_what_is_public_is_used_under_the_type_checkers(module: str) -> None:
    uses = {name for path in sorted(USES.glob("*.py")) for name in used(path.read_text(encoding="utf-8"))}
    missing = [shown for shown, name in public_names(module) if name not in uses]
    assert not missing, f"use them in {USES.name}/: {', '.join(missing)}"


def test_an_import_or_a_definition_is_no_use() -> None:
    """Else a name could be counted that no type checker has looked at."""
    source = "from etcdleader import Gate\ndef check(token): ...\nsend(left=right.here)"
    assert used(source) == {"send", "left", "right", "here"}


@pytest.mark.parametrize(
    "name",
    [
        "etcdleader.ElectionStatistics.min_remaining",  # a field
        "etcdleader.EtcdConfig.tls",  # a property
        "etcdleader.ConfigError.problems",  # set in __init__
        "etcdleader.LeaderStatus.OUSTED",  # a member
        "etcdleader.NoopLeaderManager.on_elected",  # inherited
        "etcdleader.testing.fake_etcd.FakeClient.lose_answer",  # inherited from a private class
        "etcdleader.testing.FakeEtcd.range",  # a method that is set in __init__
        "etcdleader.metrics.Metrics.leader_known",  # of a protocol
    ],
)
def test_the_walk_finds(name: str) -> None:
    """A name that it does not find cannot be reported as unused."""
    assert name in {shown for module in public_modules() for shown, _ in public_names(module)}
