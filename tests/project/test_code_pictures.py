"""The pictures that docs/design.md opens with are those that the code draws."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import pytest

import etcdleader
from tools import candidacy, rooms
from tools.code_pictures import IMAGES, draw_all


@pytest.fixture(scope="module")
def drawn() -> Mapping[str, str]:
    return draw_all()


def test_the_pictures_are_those_that_the_code_draws(drawn: Mapping[str, str]) -> None:
    outdated = [
        name
        for name, content in drawn.items()
        if not (IMAGES / name).exists() or (IMAGES / name).read_text(encoding="utf-8") != content
    ]
    assert outdated == [], "the code has changed what these show: run `make pictures`, look at them, and commit them"


def test_the_page_of_the_design_shows_every_picture_that_is_drawn(drawn: Mapping[str, str]) -> None:
    page = (IMAGES.parent / "design.md").read_text(encoding="utf-8")
    assert [name for name in drawn if f"images/{name}" not in page] == []


def test_a_function_that_is_gone_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    first, *others = candidacy.STEPS
    gone = replace(first, functions=(*first.functions, "_lease.session.Session.no_such"))
    monkeypatch.setattr(candidacy, "STEPS", (gone, *others))
    with pytest.raises(SystemExit, match=r"_lease\.session\.Session\.no_such, which is not there.*change the table"):
        candidacy.record()


def test_a_function_that_the_run_does_not_enter_in_its_step_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    first, *others = candidacy.STEPS
    never = replace(first, functions=(*first.functions, "_etcd.client.EtcdClient.lease_revoke"))
    monkeypatch.setattr(candidacy, "STEPS", (never, *others))
    with pytest.raises(SystemExit, match=r"lease_revoke for the step 'grant', where the run does not enter it"):
        candidacy.record()


def test_a_call_is_drawn_from_the_room_that_makes_it() -> None:
    steps = candidacy.record().entries
    by_function = {entry.function: entry for step in steps.values() for entry in step}
    assert by_function["work"].lane == candidacy.PROGRAM
    assert by_function["_etcd.client.EtcdClient.lease_revoke"].caller == "_lease.lease.Lease.revoke"
    assert by_function["_managers.base.BaseManager.stop"].caller == candidacy.PROGRAM
    assert by_function["_etcd.watch_stream._Watch.deliver"].caller == candidacy.ETCD
    assert by_function["_lease.renewal_round.RenewalRound.run"].caller is None


def test_a_room_without_a_line_in_the_packages_docstring_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    lines = (etcdleader.__doc__ or "").splitlines(keepends=True)
    left = [line for line in lines if not line.startswith("- ``_lease``")]
    assert len(left) == len(lines) - 1
    monkeypatch.setattr(etcdleader, "__doc__", "".join(left))
    with pytest.raises(SystemExit, match="one line for each room; see: _lease"):
        rooms.read_rooms()


def test_rooms_out_of_order_in_the_packages_docstring_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    text = etcdleader.__doc__ or ""
    monkeypatch.setattr(
        etcdleader,
        "__doc__",
        text.replace("``_lease``", "``?``").replace("``_values``", "``_lease``").replace("``?``", "``_values``"),
    )
    with pytest.raises(SystemExit, match="from the lowest layer to the highest"):
        rooms.read_rooms()


def test_a_room_imports_only_from_rooms_below_it_or_beside_it() -> None:
    """The order of the rows: a line of the picture never leads upwards."""
    order = [room.name for room in rooms.read_rooms()]
    assert len(order) > 15
    for room in rooms.read_rooms():
        assert all(order.index(name) > order.index(room.name) for name in room.imports), room.name
