"""The names and kinds of settings are those of the fields of ``Config`` and ``EtcdConfig``."""

from __future__ import annotations

import dataclasses

import pytest

from etcdleader import Config, EtcdConfig, Term
from etcdleader._settings.known import ETCD, LEADER, RESERVED, SECRETS, TELLING
from etcdleader._settings.tables import Section, Tree, lay
from etcdleader._values.kinds import Kind, kinds


def test_each_field_is_a_setting_and_there_is_no_other_but_the_election_key() -> None:
    assert list(LEADER) == [*(field.name for field in dataclasses.fields(Config)), "election_key"]
    assert list(ETCD) == [field.name for field in dataclasses.fields(EtcdConfig)]


def test_each_kind_is_that_of_a_setting() -> None:
    assert {*LEADER.values(), *ETCD.values()} == {*Kind}


def test_a_field_of_no_kind_is_refused() -> None:
    """Else a new setting could be read as something that it is not."""

    @dataclasses.dataclass
    class Unknown:
        weights: dict[str, int]

    with pytest.raises(ValueError, match="dict"):
        kinds(Unknown)


def test_a_table_takes_each_setting_by_its_kind() -> None:
    """Variables know no types."""

    @dataclasses.dataclass
    class New:
        flag: bool
        number: int | None
        duration: float
        text: str | None
        places: tuple[str, ...]

    tree: Tree = {}
    lay({"new": {"flag": "yes", "number": "7", "duration": "7", "text": 7, "places": ["a"]}}, "here", tree)
    section = Section("new", kinds(New))
    section.take(tree)
    assert section.problems == []
    assert section.values == {"flag": True, "number": 7, "duration": "7", "text": "7", "places": ["a"]}


def test_what_is_not_shown_in_a_repr_is_a_secret() -> None:
    assert {"password"} == SECRETS


def test_names_that_other_tables_have_do_not_identify_an_election() -> None:
    assert {"id", "retry", "margin"} == LEADER.keys() - TELLING


@pytest.mark.parametrize("name", RESERVED)
def test_a_command_receives_the_terms_values(name: str) -> None:
    assert name in Term.__annotations__ or hasattr(Term, name)
