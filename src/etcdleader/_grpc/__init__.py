"""A gRPC client over HTTP/2, on asyncio and trio. Requests and responses are bytes.

It does not depend on etcd, and from this library it imports only ``_runtime``. Its tests, ``tests/grpc``, would run if
it were a separate package. ::

    connection = Connection(
        "127.0.0.1:2379",
        user_agent="me",
        ping_interval=60,
        reserved_streams=0,
        on_received=on_received,
    )
    await connection.connect(get_ssl_context)
    response = await connection.unary_unary("/package.Service/Method", request, timeout=5)
    stream = connection.stream_stream("/package.Service/Other", on_message=on_message, on_close=on_close)

It exists because this library runs on asyncio and trio, starts no thread, and allows its processes to fork. No other
client does all three:

- grpcio and grpc.aio run their core in threads, which a forked child lacks. grpc.aio supports asyncio only.
- grpclib supports asyncio only. It is built on h2.
- h2 and hyperframe do no I/O. They would replace the codec (``frames.py``, ``hpack.py``), not the rest of this client.

``make bench BENCH='--rows rpc'`` measures their costs. CPU is that of the whole process. "codec" is a call through the
codec alone, in memory. "x" means times ours. A call is a Range of one key, and events come in bursts of 64 puts. ::

                        codec  lone call           call of 64           watch event
                          CPU        CPU  latency         CPU  latency          CPU  latency
    ----------------------------------------------------------------------------------------
    ours                23 us     140 us   275 us       48 us   3.8 ms        17 us   2.8 ms
    ours on trio                   1.9 x    1.6 x       1.5 x    1.3 x        1.2 x    1.0 x
    hyperframe + hpack  2.6 x      1.5 x    1.4 x       1.5 x    1.3 x        1.0 x    1.0 x
    h2                  7.5 x      3.1 x    2.4 x       3.7 x    2.8 x        1.9 x    1.6 x
    grpc.aio                       2.4 x    2.1 x       1.8 x    1.4 x        3.4 x    2.2 x

These are medians of five runs, with other work on the machine:

- Machine: a virtual machine with 2 shared processors, Linux 6.18.
- Runtime: Python 3.11.7, anyio 4.16.0, etcd 3.5.1.
- Codecs and clients: hpack 4.2.0, hyperframe 6.1.0, h2 4.4.1, grpcio 1.85.3.

A watch event costs as much with hyperframe as with our codec: 0.86 to 1.34 times, from run to run. The clients on
hyperframe and h2 are minimal, with the same tuning as ours. They lack outbound flow control, pings and draining.
"""

from __future__ import annotations

from .connection import Connection
from .events import ProtocolError
from .exchange import Stream
from .framing import Metadata, RpcError, Status

__all__ = ("Connection", "Metadata", "ProtocolError", "RpcError", "Status", "Stream")
