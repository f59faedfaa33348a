from __future__ import annotations

import pytest

from etcdleader._lease.watermark import Watermark
from etcdleader.errors import EtcdRegressedError


def test_a_response_below_the_revision_known_before_its_request_is_a_regression() -> None:
    revisions = Watermark()
    revisions.check(1, 100, revisions.known())

    with pytest.raises(EtcdRegressedError) as caught:
        revisions.check(1, 99, revisions.known())
    assert (caught.value.cluster_id, caught.value.known, caught.value.found) == (1, 100, 99)


def test_an_overtaken_response_is_no_regression() -> None:
    """Two requests in flight at once may be answered in any order."""
    revisions = Watermark()
    known_before = revisions.known()
    revisions.check(1, 100, revisions.known())

    revisions.check(1, 99, known_before)
    assert revisions.known() == {1: 100}


def test_the_revisions_of_another_cluster_are_separate() -> None:
    revisions = Watermark()
    revisions.check(1, 100, revisions.known())

    revisions.check(2, 5, revisions.known())
    assert revisions.known() == {1: 100, 2: 5}


def test_a_lower_revision_never_lowers_the_known_one() -> None:
    revisions = Watermark({1: 100})
    revisions.learn({1: 50, 2: 7})

    assert revisions.known() == {1: 100, 2: 7}


def test_a_returned_watermark_is_a_copy() -> None:
    revisions = Watermark({1: 1})
    known = revisions.known()
    revisions.check(1, 2, known)

    assert known == {1: 1}
