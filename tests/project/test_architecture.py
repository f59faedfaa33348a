"""Rules for the package as a whole, beside the layers that import-linter checks."""

from __future__ import annotations

import ast
import importlib
import inspect
import json
import pkgutil
import re
import subprocess
import sys
from collections.abc import Iterator
from types import ModuleType

import grimp
import pytest

import etcdleader
from tests.helpers.paths import ROOT

HEAVY = (
    "asyncio", "dns", "dynaconf", "etcd3", "google.protobuf", "grpc", "opentelemetry", "prometheus_client", "rich", "trio", "typer",
)  # fmt: skip
LONGEST_FILE = 400
OPTIONAL = ("pytest_plugin", "prometheus", "opentelemetry")  # they need what their extra brings


def run(script: str) -> str:
    """Run a script in a new interpreter, in which nothing else was imported. Warnings are errors."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", script], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def public_modules() -> Iterator[ModuleType]:
    yield etcdleader
    for module in pkgutil.walk_packages(etcdleader.__path__, "etcdleader."):
        path = module.name.split(".")[1:]
        if not any(part.startswith("_") for part in path) and path[0] not in OPTIONAL:
            yield importlib.import_module(module.name)


@pytest.mark.parametrize(
    "script",
    [
        pytest.param("import etcdleader", id="import"),
        pytest.param(
            "from etcdleader import *\n"
            "EtcdLeaderManager(EtcdConfig('127.0.0.1:2379'), Config(enabled=True), 'jobs').identity\n"
            "NoopLeaderManager().identity",
            id="managers",
        ),
        pytest.param(
            "import etcdleader\n"
            "settings = {'leader': {'enabled': True, 'lease': '1m'}, 'etcd': {'endpoints': ['127.0.0.1:1']}}\n"
            "etcdleader.must_new_leader_manager_from_config('jobs', settings=settings).is_leader()",
            id="factory",
        ),
    ],
)
def test_managers_are_made_without_a_loop_a_connection_or_a_heavy_import(script: str) -> None:
    """They are made where modules are imported: in command lines, before a fork, where no etcd is."""
    found = run(
        f"{script}\n"
        "import json, os, sys, threading\n"
        f"loaded = [name for name in {HEAVY} if name in sys.modules]\n"
        "sockets = [fd for fd in os.listdir('/proc/self/fd') if os.path.exists(f'/proc/self/fd/{fd}')\n"
        "           and os.readlink(f'/proc/self/fd/{fd}').startswith('socket')]\n"
        "print(json.dumps([loaded, sockets, threading.active_count()]))"
    )
    assert json.loads(found) == [[], [], 1]


@pytest.mark.parametrize(
    "module", ["asyncio", "trio", "dns", "dynaconf", "typer", "rich", "prometheus_client", "opentelemetry"]
)
def test_the_library_works_without(module: str) -> None:
    """Optional modules and modules that are loaded late are not needed at first."""
    run(f"import sys\nsys.modules[{module!r}] = None\nimport etcdleader\netcdleader.NoopLeaderManager()")


def test_to_import_the_package_loads_nothing_of_it_but_what_makes_etcd3_importable() -> None:
    """A program that runs a command, or only fences, does not pay for managers."""
    loaded = run(
        "import sys, etcdleader\nprint(*sorted(name for name in sys.modules if name.startswith('etcdleader')))"
    )
    assert loaded.split() == ["etcdleader", "etcdleader._etcd", "etcdleader._etcd.etcd3_finder"]


def test_what_is_public_is_there_all_the_same() -> None:
    """By its name, through a module that was not imported before, and for an editor that lists the names."""
    found = run(
        "import etcdleader, json\n"
        "shown = set(dir(etcdleader)) >= set(etcdleader.__all__)\n"
        "named = {name: getattr(etcdleader, name).__module__ for name in etcdleader.__all__}\n"
        "twice = all(getattr(etcdleader, name) is vars(etcdleader)[name] for name in named)\n"
        "print(json.dumps([shown, twice, named]))"
    )
    shown, twice, named = json.loads(found)
    assert shown
    assert twice
    for name, module in named.items():
        assert getattr(importlib.import_module(module), name) is getattr(etcdleader, name)
    run(
        "import etcdleader\nassert etcdleader.errors.ConfigError is etcdleader.ConfigError\netcdleader.testing.EtcdServer"
    )


@pytest.mark.parametrize(
    ("script", "error"), [("etcdleader.no", "AttributeError"), ("from etcdleader import no", "Import")]
)
def test_a_missing_name_raises_pythons_own_error(script: str, error: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", f"import etcdleader\n{script}"], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 1
    assert error in done.stderr
    assert "etcdleader" in done.stderr
    assert "no" in done.stderr


def test_no_file_is_longer_than_can_be_held_in_the_head() -> None:
    """A file that grows past this holds two ideas, and should be two files."""
    lengths = {
        path.relative_to(ROOT): len(path.read_text().splitlines())
        for folder in ("src", "tests", "benchmarks")
        for path in (ROOT / folder).rglob("*.py")
    }
    assert len(lengths) > 20
    assert {path: length for path, length in lengths.items() if length > LONGEST_FILE} == {}


def test_the_package_has_these_rooms_and_nothing_private_beside_them() -> None:
    """A private module at the root belongs to no layer that anybody could name."""
    package = ROOT / "src" / "etcdleader"
    rooms = {path.name for path in package.iterdir() if path.is_dir() and path.name != "__pycache__"}
    assert rooms - {"registration", "testing"} == {
        *("_values", "_runtime", "_grpc", "_etcd", "_lease", "_election", "_managers", "_settings", "_cli"),
    }
    private = {path.name for path in package.glob("_*.py")}
    assert private == {"__init__.py", "__main__.py"}
    nested = {path.parent.name for path in package.glob("_*/*/__init__.py")}
    assert nested == {"run", "demo"}


def test_no_modules_import_each_other_in_a_circle() -> None:
    """Imports for annotations count, too: a reader of one file must read the other."""
    graph = grimp.build_graph("etcdleader", exclude_type_checking_imports=False, cache_dir=None)
    imports = {
        module: {imported for imported in graph.find_modules_directly_imported_by(module) if imported != "etcdleader"}
        for module in graph.modules
    }
    assert len(imports) > 100
    assert circles(imports) == []


def circles(imports: dict[str, set[str]]) -> list[list[str]]:
    """Return the imports in circles: take away all modules that import none of the rest, or that none of the rest imports."""
    left = dict(imports)
    while True:
        imported = set().union(*left.values()) if left else set()
        kept = {
            module: {one for one in targets if one in left}
            for module, targets in left.items()
            if module in imported and any(one in left for one in targets)
        }
        if kept == left:
            return [[module, *sorted(targets)] for module, targets in sorted(kept.items())]
        left = kept


def test_a_circle_is_found() -> None:
    assert circles({"a": {"b"}, "b": {"c"}, "c": {"a", "d"}, "d": set(), "e": {"a"}}) == [
        ["a", "b"],
        ["b", "c"],
        ["c", "a"],
    ]
    assert circles({"a": {"b", "c"}, "b": {"c"}, "c": set()}) == []


def test_every_public_module_has_a_docstring_and_lists_its_public_names() -> None:
    """The border between what is kept stable and what is not must be seen, not guessed."""
    modules = list(public_modules())
    assert len(modules) > 5
    for module in modules:
        assert module.__doc__, module.__name__
        assert isinstance(module.__all__, tuple), module.__name__
        assert sorted(set(module.__all__)) == sorted(module.__all__), module.__name__


@pytest.mark.parametrize("manager", ["EtcdLeaderManager", "NoopLeaderManager"])
def test_the_hints_of_a_managers_constructor_can_be_resolved(manager: str) -> None:
    """Containers that inject what a constructor asks for resolve them, in a process that has loaded nothing else."""
    run(f"import typing, etcdleader\nassert typing.get_type_hints(etcdleader.{manager}.__init__)['config']")


def test_every_public_name_and_method_has_a_docstring() -> None:
    """Public names are documented in the code, for the editor and for help()."""
    undocumented = []
    for module in public_modules():
        for name in module.__all__:
            value = getattr(module, name)
            if not (inspect.isclass(value) or inspect.isfunction(value)):
                continue
            if not inspect.getdoc(value):
                undocumented.append(f"{module.__name__}.{name}")
            # The methods of the rest are the port's, or those of etcd3, and documented there.
            if module is etcdleader and inspect.isclass(value):
                undocumented += [
                    f"{name}.{attribute}"
                    for attribute, member in inspect.getmembers(value)
                    if not attribute.startswith("_")
                    and (inspect.isroutine(member) or isinstance(member, property))
                    and not inspect.getdoc(member)
                ]
    assert undocumented == []


def test_the_public_names_are_those_of_the_design() -> None:
    """Adding one is a decision, and so is taking one away."""
    assert set(etcdleader.__all__) == {
        *("Config", "EtcdConfig", "LeaderStatus", "LossReason", "Term", "LeaderRecord", "ElectionStatistics"),
        *("LeaderManager", "EtcdLeaderManager", "NoopLeaderManager"),
        *("must_new_leader_manager_from_config", "from_settings"),
        *("EtcdLeaderError", "ConfigError", "NotLeaderError", "LeadershipLostError"),
        *("EtcdUnavailableError", "EtcdRefusedError", "EtcdRegressedError", "HandOverError"),
    }


def test_the_tests_of_the_grpc_client_import_nothing_else_of_the_library() -> None:
    """They would run if that client was a separate package."""
    allowed = re.compile(r"etcdleader\._(grpc|runtime)(\..+)?|tests\.grpc\..+")
    wrong = []
    paths = list((ROOT / "tests" / "grpc").glob("*.py"))
    for path in paths:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom):
                # `from tests import sim` and `from etcdleader import _etcd` name a module, too.
                imported = [f"{node.module}.{name.name}" for name in node.names]
                imported += ["." * node.level] * bool(node.level)
            elif isinstance(node, ast.Import):
                imported = [name.name for name in node.names]
            else:
                continue
            wrong += [
                (path.name, name)
                for name in imported
                if re.match(r"etcdleader|tests|etcd3|google|grpc|\.", name) and not allowed.fullmatch(name)
            ]
    assert len(paths) > 5
    assert wrong == []


def test_every_link_between_the_pages_leads_somewhere() -> None:
    """A page that is named and missing is the first thing that a reader finds."""
    pages = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").glob("*.md")]
    links = [
        (page.name, link)
        for page in pages
        for link in re.findall(r"(?:\]\(|src=\"|srcset=\")([^)#:\"]+)(?:#[^)]*)?[)\"]", page.read_text())
        if not (page.parent / link).exists()
    ]
    assert len(pages) > 5
    assert links == []


def test_every_test_that_the_page_of_faults_names_is_in_the_file_that_it_names() -> None:
    """A row whose test was renamed or taken away looks as if it were held."""
    page = (ROOT / "docs" / "faults.md").read_text()
    section = page.partition("\n## Faults that one process can show\n")[2].partition("\n## ")[0]
    rows = re.findall(r"^\| (?!row|schedule|what happens|---).*\|$", section, re.MULTILINE)
    missing = []
    for row in rows:
        cells = row.split(" | ")[-1].split("; ")
        for names, file in (cell.split(" in [", 1) for cell in cells):
            source = (ROOT / "tests" / file.partition("]")[0]).read_text()
            named = re.findall(r"`(test_\w+)`", names)
            assert named, row
            missing += [name for name in named if f"def {name}(" not in source]
    assert len(rows) >= 30
    assert missing == []
