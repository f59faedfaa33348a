"""Limits on the buffers, queues and work that a peer can cause, with reasons. Pure.

A peer that exceeds a bound violates the protocol or is hostile. Its stream or its connection is ended.
"""

from __future__ import annotations

WINDOW = 2**24
"""Bytes that the peer may send before it receives a WINDOW_UPDATE. A resumed watch may receive a long history."""
MESSAGE = 2**24
"""Bytes of a message, unless the user sets another limit. It suffices for a list of tens of thousands of small keys."""
HEADER_LIST = 2**15
"""Bytes of the headers of one block, as SETTINGS_MAX_HEADER_LIST_SIZE counts them. gRPC's limit is 16 KiB, and proxies
add headers."""
MAX_HEADER_FRAMES = 8
"""Frames of one header block, because CONTINUATION frames may be empty. A block of the allowed size needs three."""
MAX_HEADER_BLOCKS = 8
"""Header blocks of one stream: the headers, the trailers, and informational responses before them."""
MAX_SETTINGS = 32
"""Settings in one frame. HTTP/2 defines six. Each change of the initial window affects all streams."""
MAX_USELESS_FRAMES = 10_000
"""Frames without effect on any stream: SETTINGS, PING, empty DATA, frames of closed streams. An idle connection
receives a few of them per minute. A call causes two or three, for which its response compensates."""
REFUND_FRAMES = 10
"""Useless frames that are compensated by one frame of a response, or by one frame of data that we send."""
MAX_ACKNOWLEDGEMENTS = 1_000
"""Acknowledgements of pings and settings that wait to be sent. More of them wait only if the peer does not read."""
OUTPUT_AT_A_TIME = 2**18
"""Bytes in one write, after which no more data are added. The rest waits on its stream. If a call is cancelled, its
waiting data are dropped."""
OUTPUT = 2**23
"""Bytes that wait to be sent, on one stream, or of all header blocks and control frames of the connection."""
FRAMES_PER_ITERATION = 512
"""Frames that are processed in one event-loop iteration. Each takes some microseconds."""
