"""The versions of etcd that cause a warning, or none."""

from __future__ import annotations

import pytest

from etcdleader._etcd.versions import known_defects, survives_cancelled_reads


@pytest.mark.parametrize("version", ["3.5.1", "3.5.32", "3.6.0", "3.6.13", "3.7.0", "3.7.0-rc.1"])
def test_a_version_with_known_defects_is_named_with_versions_that_have_none(version: str) -> None:
    warning = known_defects(version)
    assert warning is not None
    assert f"etcd {version} has known defects" in warning
    assert "3.5.33, 3.6.14, 3.7.1" in warning


@pytest.mark.parametrize("version", ["3.4.23", "3.4.45", "3.3.27", "2.3.8"])
def test_a_release_at_its_end_of_life_is_reported_as_such(version: str) -> None:
    """No patch of it is safe, and no further patch will be released."""
    warning = known_defects(version)
    assert warning is not None
    assert f"etcd {version} is at its end of life" in warning
    assert "3.5.33, 3.6.14, 3.7.1" in warning


@pytest.mark.parametrize(
    "version",
    ["3.5.33", "3.5.35", "3.6.16", "3.7.1", "3.10.0", "4.0.0", "", "unknown", "3.5", "3." + "9" * 5000 + ".1"],
)
def test_no_defects_are_reported_of_other_versions(version: str) -> None:
    """An unreadable version is no reason to warn."""
    assert known_defects(version) is None


@pytest.mark.parametrize("version", ["3.4.23", "3.5.7", "3.5.30", "3.6.0", "3.7.1"])
def test_reads_are_cancelled_on_versions_that_survive_it(version: str) -> None:
    assert survives_cancelled_reads(version)


@pytest.mark.parametrize("version", ["3.4.22", "3.5.0", "3.5.1", "3.5.6", "3.3.27", "2.3.8", "", "unknown"])
def test_reads_are_not_cancelled_on_versions_that_it_may_crash(version: str) -> None:
    assert not survives_cancelled_reads(version)
