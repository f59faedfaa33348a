"""What a peer may cost: the bounds of buffers, queues and work, each with its reason. Pure.

A peer that exceeds one of them has broken the protocol, or is hostile. What it sent ends its stream or its connection.
"""

from __future__ import annotations

WINDOW = 2**24
"""Bytes that the peer may send before it receives a WINDOW_UPDATE. A stream may have to catch up with much."""
MESSAGE = 2**24
"""Bytes of a message, unless the user chooses another limit: a response that lists tens of thousands of small keys."""
HEADER_LIST = 2**15
"""Bytes of the headers of one block, as SETTINGS_MAX_HEADER_LIST_SIZE counts them. gRPC's own limit is 16 KiB, and
proxies add to it."""
HEADER_FRAMES = 8
"""Frames of one header block, since a CONTINUATION may be empty. A block of the allowed size needs three of them."""
HEADER_LISTS = 8
"""Header blocks of one stream: the headers, the trailers, and informational responses before them."""
SETTINGS = 32
"""Settings in one frame. HTTP/2 knows six. Each change of the initial window concerns all streams."""
USELESS_FRAMES = 10_000
"""Frames that bring nothing to any stream: SETTINGS, PING, empty DATA, frames of closed streams. An idle connection
receives a few of them a minute, and a call two or three, which its response pays for."""
REFUND = 10
"""Worthless frames that a frame with a response, or a frame of data that we send, pays for."""
ACKNOWLEDGEMENTS = 1_000
"""Answers to pings and settings that wait to be sent. More of them wait only if the peer does not read."""
OUTPUT_AT_A_TIME = 2**18
"""Bytes after which no more data are added to those that the transport takes next. The rest waits on its stream, where
it is dropped with a call that is given up."""
OUTPUT = 2**23
"""Bytes that wait to be sent, on one stream, or of all header blocks and control frames of the connection."""
FRAMES_AT_A_TIME = 512
"""Frames that are processed in one iteration of the event loop, at some microseconds each."""
