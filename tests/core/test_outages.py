"""The begin and end of an outage, as a table: each state with each input, beside rules in plain flags."""

from __future__ import annotations

import itertools
from collections.abc import Collection

import pytest
from hypothesis import given
from hypothesis import strategies as st

from etcdleader import EtcdLeaderError, EtcdRefusedError, EtcdUnavailableError
from etcdleader._managers.outages import TRANSITIONS, Input, News, Outages, State

Kind = type[EtcdLeaderError] | None

FAILURES = (Input.CALL_FAILED, Input.RENEWAL_FAILED, Input.RENEWAL_FAILED_LATE, Input.WATCH_FAILED)
BACK = (Input.WATCHES_BACK, Input.WATCHES_BACK_IDLE)
PATHS: dict[State, tuple[Input, ...]] = {
    State.FINE: (),
    State.TROUBLE: (Input.CALL_FAILED,),
    State.FAILING: (Input.RENEWAL_FAILED,),
    State.CRITICAL: (Input.RENEWAL_FAILED_LATE,),
    State.BLIND: (Input.WATCH_FAILED,),
    State.BLIND_FAILING: (Input.WATCH_FAILED, Input.RENEWAL_FAILED),
    State.BLIND_CRITICAL: (Input.WATCH_FAILED, Input.RENEWAL_FAILED_LATE),
}
"""The inputs that lead to each state."""
ALL_PAIRS = list(itertools.product(State, Input))


class Rules:
    """The same rules without a table: a flag for each fact, and one watch."""

    def __init__(self) -> None:
        self.kinds: set[Kind] = set()
        self.blind = self.renewals_fail = self.critical = False

    def take(self, happened: Input, kind: Kind) -> set[News]:
        news: set[News] = set()
        if kind is not None and kind not in self.kinds:
            self.kinds.add(kind)
            news.add(News.KIND)
        if happened is Input.WATCH_FAILED:
            self.blind = True
        if happened in {Input.RENEWAL_FAILED, Input.RENEWAL_FAILED_LATE} and not self.renewals_fail:
            self.renewals_fail = True
            news.add(News.RENEWALS_FAIL)
        if happened is Input.RENEWAL_FAILED_LATE and not self.critical:
            self.critical = True
            news.add(News.CRITICAL)
        if happened in {Input.CANDIDACY_ENDED, Input.RENEWED}:
            self.renewals_fail = self.critical = False
        if happened in BACK:
            self.blind = False
        recovers = happened in {Input.RENEWED, Input.WATCHES_BACK_IDLE}
        recovers |= happened is Input.ANSWERED and not self.renewals_fail
        if recovers and not self.blind and self.kinds:
            self.kinds = set()
            self.renewals_fail = self.critical = False
            news.add(News.OVER)
        return news


def take(outages: Outages, happened: Input, kind: Kind = None) -> Collection[News]:
    if happened is Input.WATCH_FAILED:
        assert kind is not None
        return outages.watch_failed("watch", kind)
    if happened in BACK:
        return outages.watch_back("watch", campaigning=happened is Input.WATCHES_BACK)
    return outages.take(happened, kind)


def kind_of(happened: Input, kind: Kind = EtcdUnavailableError) -> Kind:
    return kind if happened in FAILURES else None


def check_alike(outages: Outages, rules: Rules, happened: Input, kind: Kind) -> None:
    news = take(outages, happened, kind)
    assert len(set(news)) == len(news)
    assert set(news) == rules.take(happened, kind)
    assert outages.kinds == rules.kinds
    assert outages.state.renewals_fail == rules.renewals_fail
    assert outages.state.critical == rules.critical
    assert (outages.state >= State.BLIND) == rules.blind
    assert (outages.state is State.FINE) == (not rules.kinds)


def test_the_table_has_a_state_for_each_pair() -> None:
    assert TRANSITIONS.keys() == set(Input)
    assert all(len(row) == len(State) for row in TRANSITIONS.values())
    assert list(State) == list(range(len(State))), "the number is the column"


@pytest.mark.parametrize(("state", "happened"), ALL_PAIRS)
@pytest.mark.parametrize("kind", [EtcdUnavailableError, EtcdRefusedError])
def test_each_input_in_each_state_follows_the_rules(state: State, happened: Input, kind: Kind) -> None:
    """One test has a kind of error that the outage has had, the other a new one."""
    outages, rules = Outages(), Rules()
    for step in PATHS[state]:
        check_alike(outages, rules, step, kind_of(step))
    assert outages.state is state
    check_alike(outages, rules, happened, kind_of(happened, kind))


@given(st.lists(st.tuples(st.sampled_from(Input), st.sampled_from([EtcdUnavailableError, EtcdRefusedError]))))
def test_any_sequence_of_inputs_follows_the_rules(inputs: list[tuple[Input, type[EtcdLeaderError]]]) -> None:
    outages, rules = Outages(), Rules()
    for happened, kind in inputs:
        check_alike(outages, rules, happened, kind_of(happened, kind))


@pytest.mark.parametrize("state", [state for state in State if state >= State.BLIND])
@pytest.mark.parametrize("happened", [Input.ANSWERED, Input.RENEWED])
def test_nothing_ends_an_outage_while_a_watch_is_missing(state: State, happened: Input) -> None:
    assert TRANSITIONS[happened][state] >= State.BLIND


@pytest.mark.parametrize("state", [state for state in State if state >= State.BLIND])
def test_a_confirmed_renewal_ends_the_failure_of_renewals_even_while_a_watch_is_missing(state: State) -> None:
    """Otherwise a candidate whose lease is renewed would stay unready until its watch is restored."""
    assert TRANSITIONS[Input.RENEWED][state] is State.BLIND


@pytest.mark.parametrize("state", [State.FAILING, State.CRITICAL])
def test_a_response_does_not_end_an_outage_in_which_renewals_fail(state: State) -> None:
    """The next candidacy, or a confirmed renewal, ends it."""
    assert TRANSITIONS[Input.ANSWERED][state] is state
    assert TRANSITIONS[Input.RENEWED][state] is State.FINE
    assert TRANSITIONS[Input.ANSWERED][TRANSITIONS[Input.CANDIDACY_ENDED][state]] is State.FINE


def test_an_outage_lasts_until_the_last_watch_is_restored() -> None:
    outages = Outages()
    outages.watch_failed("one", EtcdUnavailableError)
    outages.watch_failed("other", EtcdUnavailableError)
    assert not outages.watch_back("one", campaigning=False)
    assert not outages.take(Input.RENEWED)
    assert list(outages.watch_back("other", campaigning=False)) == [News.OVER]
    assert not outages.kinds


def test_a_manager_without_outages_shares_its_sets() -> None:
    """Ten thousand managers may be in a process."""
    fresh, used = Outages(), Outages()
    used.watch_failed("watch", EtcdUnavailableError)
    used.watch_back("watch", campaigning=False)
    assert used.kinds is fresh.kinds
    assert used._blind is fresh._blind
    assert not hasattr(used, "__dict__")
