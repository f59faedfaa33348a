"""Log lines that never wait for their reader."""

from __future__ import annotations

import json
import logging
import os
import threading
import time
from collections.abc import Iterator
from contextlib import suppress

import pytest

from etcdleader._cli.run import queued_handler
from etcdleader._cli.run.log_format import LogFormat, formatter
from etcdleader._cli.run.queued_handler import QueuedHandler


class Pipe:
    """A pipe of which the writing end is given to a handler."""

    def __init__(self) -> None:
        self.reader, self.writer = os.pipe()
        self.handlers: list[QueuedHandler] = []
        self._seen = b""

    def fill(self) -> None:
        os.set_blocking(self.writer, False)
        with suppress(BlockingIOError):
            while True:
                os.write(self.writer, b"\n" * 4096)
        os.set_blocking(self.writer, True)

    def read_until(self, words: bytes) -> list[str]:
        while words not in self._seen or not self._seen.endswith(b"\n"):
            some = os.read(self.reader, 1 << 16)
            assert some
            self._seen += some
        return [line for line in self._seen.decode().splitlines() if line]


@pytest.fixture
def pipe() -> Iterator[Pipe]:
    pipe = Pipe()
    yield pipe
    for handler in pipe.handlers:
        handler.close()
    os.close(pipe.reader)  # a thread in the middle of a write gets EPIPE
    give_up_at = time.monotonic() + 60
    while writers():
        assert time.monotonic() < give_up_at, "a closed handler has not ended its thread"
        time.sleep(0.001)
    os.close(pipe.writer)


def writers() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "etcdleader log"]


def logger_to(pipe: Pipe, style: LogFormat) -> logging.Logger:
    handler = QueuedHandler(pipe.writer)
    pipe.handlers.append(handler)
    handler.setFormatter(formatter(style, {}))
    logger = logging.Logger("etcdleader.run")  # noqa: LOG001 - with no other handler, and gone after the test
    logger.addHandler(handler)
    return logger


@pytest.mark.parametrize("style", [LogFormat.TEXT, LogFormat.JSON])
def test_what_a_full_queue_drops_is_counted_and_reported(pipe: Pipe, style: LogFormat) -> None:
    """An operator must see that there is a gap."""
    logger = logger_to(pipe, style)
    pipe.fill()
    logged = 2000
    for number in range(logged):
        logger.warning("line %d of many %s", number, "x" * 1000)
    lines = pipe.read_until(b"were dropped")
    whole, report = lines[:-1], lines[-1]
    dropped = logged - len(whole)
    assert 0 < dropped < logged
    message = json.loads(report)["message"] if style is LogFormat.JSON else report
    assert f"{dropped} log lines were dropped, because stderr was not read" in message
    for number, line in enumerate(whole):
        assert f"line {number} of many" in line
    logger.warning("after")
    assert "after" in pipe.read_until(b"after")[-1]


def test_lines_are_written_before_the_process_ends_if_they_are_read(
    pipe: Pipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(queued_handler, "_FLUSH_TIMEOUT_SECONDS", 60)  # a busy machine may be late by a second
    logger = logger_to(pipe, LogFormat.TEXT)
    logger.warning("the last one")
    logger.handlers[0].flush()
    os.set_blocking(pipe.reader, False)
    assert os.read(pipe.reader, 1000) == b"etcdleader: warning: the last one\n"


def test_the_end_of_the_process_waits_for_a_reader_a_second_at_most(pipe: Pipe) -> None:
    logger = logger_to(pipe, LogFormat.TEXT)
    pipe.fill()
    logger.warning("never read")
    began_at = time.monotonic()
    logger.handlers[0].flush()
    assert time.monotonic() - began_at >= 1  # and it returns


def test_a_descriptor_that_does_not_block_is_waited_for(pipe: Pipe) -> None:
    """The command shares it and may have set O_NONBLOCK."""
    logger = logger_to(pipe, LogFormat.TEXT)
    pipe.fill()
    os.set_blocking(pipe.writer, False)
    logger.warning("all of it")
    assert pipe.read_until(b"all of it")[-1] == "etcdleader: warning: all of it"


def test_a_record_that_cannot_be_formatted_is_a_line_and_no_error(pipe: Pipe) -> None:
    logger = logger_to(pipe, LogFormat.TEXT)
    logger.warning("%d", "no number")
    assert "a log line of etcdleader.run cannot be formatted: TypeError" in pipe.read_until(b"formatted")[0]


def test_control_characters_are_escaped_and_lines_are_kept(pipe: Pipe) -> None:
    """Parts of a line may come from etcd."""
    logger = logger_to(pipe, LogFormat.TEXT)
    logger.info("first \x1b[2J\rforged\n- second \x9b")
    assert pipe.read_until(b"second")[:2] == ["etcdleader: first \\x1b[2J\\rforged", "- second \\x9b"]


def test_a_closed_handler_writes_what_it_has_and_ends_its_thread(pipe: Pipe) -> None:
    """The fixture looks at the thread."""
    logger = logger_to(pipe, LogFormat.TEXT)
    logger.warning("the last one")
    logger.handlers[0].close()
    assert pipe.read_until(b"the last one") == ["etcdleader: warning: the last one"]
