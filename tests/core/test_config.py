"""The settings that are accepted, and those that are refused."""

from __future__ import annotations

import copy
import dataclasses
import math
import pickle
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from etcdleader.config import Config, EtcdConfig, validate_election_key
from etcdleader.errors import ConfigError, EtcdLeaderError
from tests.core.refusals import SECRET, problems

# Config


def test_the_defaults_equal_those_of_the_go_package() -> None:
    """Names and numbers are the Go package's; margin and advertise are added."""
    assert dataclasses.asdict(Config()) == {"margin": 3.0, "advertise": None} | {
        "enabled": False,
        "id": "leader",
        "lease": 60.0,
        "retry": 5.0,
        "renew": 15.0,
        "exit_on_overrun": False,
    }


def test_durations_are_kept_as_seconds() -> None:
    """This holds in whatever form they were given."""
    config = Config(lease="1m30s", retry=timedelta(milliseconds=500), renew=7, margin="2.5s")
    durations = [config.lease, config.retry, config.renew, config.margin]
    assert durations == [90.0, 0.5, 7.0, 2.5]
    assert {type(duration) for duration in durations} == {float}


@pytest.mark.parametrize(
    ("lease", "margin"), [(1, 0.25), (2, 0.5), (3.9, 0.975), (4, 1), (10, 1), (20, 1), (21, 1.05), (60, 3), (3600, 180)]
)
def test_the_margin_is_a_twentieth_of_the_lease_within_bounds(lease: float, margin: float) -> None:
    """It is at least a second, because timers are late, and at most a quarter, so that the rest is enough to renew."""
    assert Config(lease=lease, retry=0.1, renew=0.1).margin == pytest.approx(margin)


@pytest.mark.parametrize("name", ["lease", "retry", "renew", "margin"])
@pytest.mark.parametrize(
    "value", [0, -1, "0s", "-5s", timedelta(0), True, math.nan, math.inf, "", "soon", "1m or 5s", [5], 10**400]
)
def test_an_impossible_duration_is_refused_by_its_name(name: str, value: object) -> None:
    """Go accepts a zero, and then spins."""
    kwargs: dict[str, Any] = {name: value}
    (problem,) = problems(Config, **kwargs)
    assert problem.startswith(f"{name} = ")
    assert "must be" in problem


@pytest.mark.parametrize(("lease", "allowed"), [(0.999, False), (1, True), (9e9, True), (9.1e9, False), (1e300, False)])
def test_only_a_lease_that_etcd_grants_is_allowed(lease: float, *, allowed: bool) -> None:
    """Below a second etcd grants none, and above 9e9 s it refuses."""
    if allowed:
        assert Config(lease=lease, retry=0.1, renew=0.1).lease == lease
    else:
        assert problems(Config, lease=lease, retry=0.1, renew=0.1)[0].startswith("lease = ")


def test_one_lost_response_must_fit_into_the_lease() -> None:
    """A renewal, an attempt that times out, and another one that succeeds must fit before the deadline."""
    assert Config(lease=28, renew=15, retry=5, margin=3).lease == 28
    (problem,) = problems(Config, lease=27.9, renew=15, retry=5, margin=3)
    assert problem.startswith("renew + 2 * retry + margin = 28s: must be at most lease = 27.9s")


@pytest.mark.parametrize(
    ("durations", "reported"),
    [
        ({"renew": "70s", "lease": "10s", "retry": "-1s"}, "renew + margin = 71s: must be at most lease = 10s"),
        ({"renew": "soon", "lease": "10s", "retry": "6s"}, "2 * retry + margin = 13s: must be at most lease = 10s"),
        ({"renew": "10s", "lease": "10s", "retry": "2s", "margin": "0s"}, "renew + 2 * retry = 14s: must be at most"),
        ({"renew": 0, "lease": "10s", "retry": "x", "margin": "11s"}, "margin = 11s: must be at most lease = 10s"),
    ],
)
def test_a_sum_that_is_too_long_is_reported_beside_a_wrong_part_of_it(durations: dict[str, Any], reported: str) -> None:
    """A fix of the part would only lead to the next error."""
    *wrong, last = problems(Config, **durations)
    assert wrong
    assert last.startswith(reported)


def test_a_sum_with_a_wrong_part_is_not_reported_if_it_may_still_fit() -> None:
    """Its wrong part may become any value."""
    assert len(problems(Config, renew="9s", lease="10s", retry="-1s", margin="1s")) == 1
    assert len(problems(Config, renew="70s", lease="0s")) == 1


def test_a_sum_that_equals_the_lease_except_for_rounding_is_allowed() -> None:
    """In floats 0.4 + 0.8 + 0.1 is above 1.3."""
    assert 0.4 + 2 * 0.4 + 0.1 > 1.3
    assert Config(lease=1.3, renew=0.4, retry=0.4, margin=0.1).lease == 1.3


@given(*[st.floats(0.01, 100) for _ in range(4)])
def test_every_allowed_config_leaves_time_to_lose_one_response(
    lease: float, retry: float, renew: float, margin: float
) -> None:
    """For any numbers: refused, or the inequality holds."""
    try:
        config = Config(lease=lease, retry=retry, renew=renew, margin=margin)
    except ConfigError:
        assert lease < 1 or renew + 2 * retry + margin > lease
    else:
        assert config.renew + 2 * config.retry + config.margin <= config.lease * (1 + 1e-9)


@pytest.mark.parametrize("id_", ["", "  ", "a\nb", "a\0", "\x7f", "\x1b[31m", "\ud800", None, 5, b"leader"])
def test_an_id_that_cannot_be_shown_is_refused(id_: Any) -> None:
    """It is stored in etcd, logged and shown on terminals."""
    (problem,) = problems(Config, id=id_)
    assert problem.startswith("id = ")


@pytest.mark.parametrize("name", ["id", "advertise"])
@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("{zz}", "{zz}"),
        ("web-{host}-{hostname}", "{hostname}"),
        ("{Host}", "{Host}"),
        ("http://{host", "{host"),
        ("{host:>5}", "{host"),
        ("{pid!r}", "{pid"),
        ("{0}", "{0}"),
        ("{{pod}}", "{pod}"),
    ],
)
def test_a_brace_before_a_word_must_begin_a_known_placeholder(name: str, text: str, shown: str) -> None:
    """The text itself would be the identity, or the address, of every candidate."""
    (problem,) = problems(Config, **{name: text})
    assert problem == f"{name} = {text!r}: {shown} is no placeholder, only {{host}} and {{pid}} are"


@pytest.mark.parametrize("name", ["id", "advertise"])
@pytest.mark.parametrize(
    "text", ['{"port": 1}', '{"pid": {pid}}', "{}", "a {", "}", "{ zz }", "{{host}}", "{host}{pid}", "[{'a': 1}]"]
)
def test_other_braces_are_a_part_of_the_text(name: str, text: str) -> None:
    """The text may be a JSON object. In one, no brace is right before a word."""
    kwargs: dict[str, Any] = {name: text}
    assert getattr(Config(**kwargs), name) == text


@pytest.mark.parametrize("id_", ["leader", "web-{host}-{pid}", "führer 1", "a/b#c"])
def test_an_id_is_any_name(id_: str) -> None:
    """Placeholders are replaced later, in the process that campaigns."""
    assert Config(id=id_).id == id_


@pytest.mark.parametrize("name", ["enabled", "exit_on_overrun"])
@pytest.mark.parametrize("value", ["true", "false", 1, 0, None])
def test_a_flag_must_be_a_bool(name: str, value: object) -> None:
    """The string "false" is true in Python."""
    kwargs: dict[str, Any] = {name: value}
    assert problems(Config, **kwargs) == (f"{name} = {value!r}: must be true or false",)


def test_all_wrong_values_are_reported_at_once() -> None:
    """A user should not have to start a program five times to find five mistakes."""
    wrong = {"enabled": "x", "id": "", "lease": 0, "retry": "x", "renew": -1, "margin": [], "exit_on_overrun": 2}
    found = problems(Config, **wrong, advertise="")
    assert {problem.split(" ")[0] for problem in found} == {field.name for field in dataclasses.fields(Config)}


def test_a_config_error_is_a_value_error_and_an_etcdleader_error_and_can_be_pickled() -> None:
    """It may be raised in a worker process."""
    with pytest.raises(ConfigError) as caught:
        Config(lease=0, renew=0)
    error = pickle.loads(pickle.dumps(caught.value))
    assert type(error) is ConfigError
    assert issubclass(ConfigError, ValueError)
    assert issubclass(ConfigError, EtcdLeaderError)
    assert error.problems == caught.value.problems
    assert str(error) == str(caught.value)


def test_a_value_is_shown_only_in_part_when_it_is_long() -> None:
    """A log line is no place for a file that was given by mistake."""
    assert len(problems(Config, lease="x" * 10_000)[0]) < 300


@pytest.mark.parametrize(
    "config", [Config(enabled=True, margin=1), EtcdConfig("https://a:1", user="u", password=SECRET)]
)
def test_configs_behave_like_values(config: Any) -> None:
    """They are frozen, hashable, equal by content, and copied by any means."""
    with pytest.raises(dataclasses.FrozenInstanceError):
        setattr(config, dataclasses.fields(config)[1].name, "other")
    for other in (
        copy.copy(config),
        copy.deepcopy(config),
        pickle.loads(pickle.dumps(config)),
        dataclasses.replace(config),
    ):
        assert other == config
        assert hash(other) == hash(config)
    assert config != Config(id="other")


# Election keys

SPACED = ("jobs\n", "jobs\r\n", "jobs ", " jobs", "\tjobs", "jobs\u00a0", "\u2003jobs", "jobs/ ")
"""A file adds a newline at its end, and a copied text may have spaces."""


INVISIBLE = ("\ufeffjobs", "jobs\u200b", "jobs\x1b", "\x7fjobs", "jobs\u00ad")
"""The first is that of a file with a byte order mark."""


@pytest.mark.parametrize("key", ["jobs\u0301", "\u2764\ufe0f", "a\u200db", "jobs\U0001fae8", "jobs\U0010fffd"])
def test_a_character_unknown_to_this_python_may_end_an_election_key(key: str) -> None:
    """Another process of the election may run on another Python."""
    validate_election_key(key)


@pytest.mark.parametrize("key", ["jobs", "jobs/nightly", "/jobs", "jobs//x", "Jobs #1", "two words", "ümlaut"])
def test_an_election_key_is_any_prefix(key: str) -> None:
    """Go accepts it too."""
    validate_election_key(key)


@pytest.mark.parametrize(
    "key", ["", "/", "jobs/", "jobs//", "jobs\0", "\ud800", None, 5, b"jobs", " ", *SPACED, *INVISIBLE]
)
def test_an_election_key_that_splits_the_queue_is_refused(key: Any) -> None:
    """The candidates of "jobs/" would have a separate queue, beside that of "jobs"."""
    (problem,) = problems(validate_election_key, key)
    assert problem.startswith("election_key = ")
