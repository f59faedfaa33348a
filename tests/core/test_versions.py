"""Which versions of etcd are warned about."""

from __future__ import annotations

import pytest

from etcdleader._core.versions import known_defects


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
