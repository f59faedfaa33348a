"""The value of a candidate key: the identity, and the advertised text beside it."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from etcdleader import Config, ConfigError
from etcdleader._election.candidate_value import decode_value, encode_value
from etcdleader.config import validate_advertised

TEXT = st.text(st.characters(exclude_categories=["Cs"]))


def test_without_an_advertised_value_the_value_is_the_identity() -> None:
    assert encode_value("führer#1f2e3d4c", None) == "führer#1f2e3d4c".encode()


def test_with_one_it_is_a_json_object_that_any_language_reads() -> None:
    value = encode_value("a#1f2e3d4c", "http://größe:1")
    assert value == '{"id": "a#1f2e3d4c", "advertise": "http://größe:1"}'.encode()


@given(TEXT, st.none() | TEXT)
def test_what_is_written_is_read_again(identity: str, advertised: str | None) -> None:
    read = decode_value(encode_value(f"{identity}#1f2e3d4c", advertised))
    assert read == (f"{identity}#1f2e3d4c", advertised)


@pytest.mark.parametrize(
    "value",
    [
        "{",
        "{}",
        "{id}#1f2e3d4c",
        '{"id": "a"}',
        '{"advertise": "a"}',
        '{"id": "a", "advertise": "b"}#1f2e3d4c',
        '{"id": 1, "advertise": "b"}',
        '{"id": "a", "advertise": null}',
        '{"id": "a", "advertise": {"port": 1}}',
        '{"host": "a", "port": 1}',
        '["id", "advertise"]',
        ' {"id": "a", "advertise": "b"}',
        '{"id":' * 100_000,
        '{"id": ' + "9" * 10_000 + "}",
    ],
)
def test_a_foreign_value_stays_as_it_is(value: str) -> None:
    assert decode_value(value.encode()) == (value, None)


def test_errors_in_utf_8_are_replaced() -> None:
    assert decode_value(b"a\xff") == ("a\ufffd", None)
    assert decode_value(b'{"id": "a\xff", "advertise": "b"}') == ('{"id": "a\ufffd", "advertise": "b"}', None)


def test_a_lone_surrogate_in_json_is_replaced() -> None:
    """No stream and no etcd can encode it."""
    assert decode_value(json.dumps({"id": "a\ud800", "advertise": "\ud800"}).encode()) == ("a?", "?")


def test_another_client_may_add_what_it_likes() -> None:
    assert decode_value(b'{ "zone": 1, "advertise":"b","id" :"a"}') == ("a", "b")


@given(st.binary())
def test_any_bytes_are_read(value: bytes) -> None:
    identity, _ = decode_value(value)
    assert identity == value.decode(errors="replace") or value.startswith(b"{")


# What may be advertised


@pytest.mark.parametrize("value", ["", "  ", "a\nb", "a\0", "\x1b[31m", "\ud800", 5, b"a", "x" * 1025, "ü" * 513])
def test_an_advertised_value_that_would_break_what_shows_the_queue_is_refused(value: Any) -> None:
    """Each read of the queue has it, and so have logs and terminals."""
    with pytest.raises(ConfigError, match=r"^advertise = "):
        Config(advertise=value)
    with pytest.raises(ConfigError, match=r"^advertise = "):
        validate_advertised(value)


@pytest.mark.parametrize("value", ["http://10.0.0.1:8000", '{"port": 1}', "ü" * 512, "http://{host}:8000"])
def test_an_advertised_value_is_any_text_of_at_most_a_kibibyte(value: str) -> None:
    assert Config(advertise=value).advertise == value
