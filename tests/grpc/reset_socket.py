"""A socket that a peer accepted and then reset."""

from __future__ import annotations

import select
import socket
import struct

__all__ = ("reset_socket",)


async def reset_socket(host: str, port: int) -> socket.socket:
    """Replace ``connect_tcp``: return a connected socket whose peer has reset the connection since."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        one = socket.create_connection(listener.getsockname())
        peer, _ = listener.accept()
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        peer.close()
    ended = select.poll()
    ended.register(one, select.POLLHUP)
    assert ended.poll(60_000)
    one.settimeout(0)
    return one
