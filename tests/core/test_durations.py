"""Durations, by the tables of Go's own tests and by properties."""

from __future__ import annotations

import math
from datetime import timedelta
from decimal import Decimal

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from etcdleader._values.durations import parse_duration

LONGEST = (2**63 - 1) // 10**9  # whole seconds


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        # Go's TestParseDuration.
        *(("0", 0), ("5s", 5), ("30s", 30), ("1478s", 1478)),
        *(("-5s", -5), ("+5s", 5), ("-0", 0), ("+0", 0)),
        *(("5.0s", 5), ("5.6s", 5.6), ("5.s", 5), (".5s", 0.5), ("1.0s", 1), ("1.00s", 1), ("1.004s", 1.004)),
        *(("1.0040s", 1.004), ("100.00100s", 100.001)),
        *(("10ns", 1e-8), ("11us", 1.1e-5), ("12µs", 1.2e-5), ("12μs", 1.2e-5), ("13ms", 0.013), ("14s", 14)),
        *(("15m", 900), ("16h", 57600)),
        *(("3h30m", 12600), ("10.5s4m", 250.5), ("-2m3.4s", -123.4), ("1h2m3s4ms5us6ns", 3723.004005006)),
        *(("39h9m14.425s", 140954.425), ("52763797000ns", 52.763797)),
        *(("9007199254740993ns", 9007199.254740993), ("9223372036854775807ns", 9223372036.854775807)),
        *(("0.100000000000000000000h", 360), ("0.830103483285477580700h", 2988.372539827)),
        # A number is seconds, which Go refuses.
        *(("90", 90), ("1.5", 1.5), (".5", 0.5), ("-3", -3), ("010", 10)),
        # Values that floats would not represent.
        *(("1100ms", 1.1), ("300ms", 0.3), ("0.1s0.2s", 0.3)),
    ],
)
def test_a_string_has_the_same_meaning_as_in_go(text: str, seconds: float) -> None:
    """Settings are shared with programs in Go."""
    assert parse_duration(text) == seconds


@pytest.mark.parametrize(
    "text",
    [
        # Go's TestParseDurationErrors, without the bare number.
        *("", "-", "s", ".", "-.", ".s", "+.s", "\x85\x85", "\xffff", "hello \xffff world", "\ufffd", "\ufffdhello"),
        *("9223372036854775810ns", "9223372036854775808us", "9223372036854ms0ns9999h", "3000000h", "-3000000h"),
        # Forms that the usual Python packages accept, or that a user may expect.
        *("1m or 5s", "1m 5s", " 5s", "5s ", "5 s", "1m,5s", "1d", "1w", "1mo", "1y", "5S", "5M", "5sec", "5 seconds"),
        *("1e3", "1e3s", "0x10", "1_000", "1_0s", "inf", "nan", "-inf", "infinity", "1:30", "true", "None"),
        *("--5s", "+-5s", "5s-3s", "5s+3s", "1..5s", "1.5.5s", "5s\n", "5s\0"),
        *("\u0665s", "\uff15s", "\u096b", "\u00b2s"),  # digits outside ASCII
        *("9" * 101, "9" * 5000 + "s", "0" * 100 + "1"),
    ],
)
def test_a_value_that_is_no_duration_is_refused(text: str) -> None:
    """A guess would be a wrong lease."""
    with pytest.raises(ValueError, match="must be a duration"):
        parse_duration(text)


@pytest.mark.parametrize(
    ("value", "seconds"),
    [(5, 5.0), (0, 0.0), (-2.5, -2.5), (1.5, 1.5), (timedelta(minutes=1, milliseconds=5), 60.005), (LONGEST, LONGEST)],
)
def test_numbers_are_seconds(value: object, seconds: float) -> None:
    """The result is a float for every type."""
    parsed = parse_duration(value)
    assert parsed == seconds
    assert type(parsed) is float


@pytest.mark.parametrize(
    "value",
    [
        *(True, False, None, [], {}, b"5s", ("5s",), Decimal(5), 5j),
        *(math.nan, math.inf, -math.inf, 10**400, -(10**400), LONGEST + 2, 1e300, timedelta.max),
    ],
    ids=repr,
)
def test_other_values_are_refused(value: object) -> None:
    """True is an int in Python, NaN compares as false, and an overflow must not raise another error."""
    with pytest.raises(ValueError, match="must be a duration"):
        parse_duration(value)


def go(nanoseconds: int) -> str:
    """Format like Go's Duration.String."""
    sign, rest = ("-" if nanoseconds < 0 else ""), abs(nanoseconds)
    hours, rest = divmod(rest, 3600 * 10**9)
    minutes, rest = divmod(rest, 60 * 10**9)
    seconds, fraction = divmod(rest, 10**9)
    return f"{sign}{hours}h{minutes}m{seconds}." + f"{fraction:09}s"


@given(st.integers(-(2**63) + 1, 2**63 - 1))
def test_a_duration_that_go_formats_is_parsed_exactly(nanoseconds: int) -> None:
    """A duration that was converted by Go and back is the nearest float."""
    assert parse_duration(go(nanoseconds)) == nanoseconds / 10**9
    assert parse_duration(f"{nanoseconds}ns") == nanoseconds / 10**9


NANOSECONDS = {"h": 3600 * 10**9, "m": 60 * 10**9, "s": 10**9, "ms": 10**6, "us": 1000, "µs": 1000, "μs": 1000, "ns": 1}


@given(st.lists(st.tuples(st.integers(0, 10**6), st.sampled_from([*NANOSECONDS])), min_size=1, max_size=10))
@example([(10**6, "h"), (10**6, "h"), (562047, "h"), (47, "m"), (16, "s"), (854, "ms"), (775807, "ns")])
@example([(10**6, "h"), (10**6, "h"), (562047, "h"), (47, "m"), (16, "s"), (854, "ms"), (775808, "ns")])
def test_parts_add_up(parts: list[tuple[int, str]]) -> None:
    """This holds in any order, repeated or not, as in Go. Each part may be valid, and their sum too large."""
    text = "".join(f"{number}{unit}" for number, unit in parts)
    nanoseconds = sum(number * NANOSECONDS[unit] for number, unit in parts)
    if nanoseconds < 2**63:
        assert parse_duration(text) == nanoseconds / 10**9
    else:
        with pytest.raises(ValueError, match="less than 292 years"):
            parse_duration(text)


@given(st.text(alphabet="0123456789.+-hmsuµn e_", max_size=12))
def test_any_text_is_a_duration_or_one_kind_of_error(text: str) -> None:
    """Any text is a finite number of seconds or one kind of error."""
    try:
        assert math.isfinite(parse_duration(text))
    except ValueError as error:
        assert str(error).startswith("must be a duration")  # noqa: PT017
