"""Which versions of etcd are warned about, or spared."""

from __future__ import annotations

import pytest

from etcdleader._etcd.versions import known_defects, survives_given_up_reads


@pytest.mark.parametrize("version", ["3.4.23", "3.4.43", "3.5.1", "3.5.29", "3.6.10", "3.3.27", "2.3.8", "3.6.0-rc.1"])
def test_a_version_with_known_defects_is_told_with_those_that_have_none(version: str) -> None:
    told = known_defects(version)
    assert told is not None
    assert version in told
    assert "3.4.44, 3.5.30, 3.6.11" in told


@pytest.mark.parametrize("version", ["3.4.44", "3.5.30", "3.6.11", "3.7.0", "3.10.0", "4.0.0", "", "unknown", "3.5"])
def test_nothing_is_said_against_others(version: str) -> None:
    """What cannot be read is no reason to alarm anybody."""
    assert known_defects(version) is None


@pytest.mark.parametrize("version", ["3.4.23", "3.5.7", "3.5.30", "3.6.0", "3.7.1"])
def test_reads_may_be_given_up_where_that_is_known_to_harm_nobody(version: str) -> None:
    assert survives_given_up_reads(version)


@pytest.mark.parametrize("version", ["3.4.22", "3.5.0", "3.5.1", "3.5.6", "3.3.27", "2.3.8", "", "unknown"])
def test_reads_are_not_given_up_where_that_may_end_a_member(version: str) -> None:
    assert not survives_given_up_reads(version)
