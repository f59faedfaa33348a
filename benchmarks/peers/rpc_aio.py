"""grpc.aio without serializers, so that messages stay bytes."""

from __future__ import annotations

import asyncio
from typing import Any

import grpc.aio

from benchmarks.peers.rpc_client import TIMEOUT, OnMessage

__all__ = ("AioClient",)


class AioClient:
    async def connect(self, address: str) -> None:
        self._channel = grpc.aio.insecure_channel(address)
        self._methods: dict[str, Any] = {}
        self._tasks: list[asyncio.Task[None]] = []
        await self._channel.channel_ready()

    async def call(self, path: str, request: bytes) -> bytes:
        if (method := self._methods.get(path)) is None:
            method = self._methods[path] = self._channel.unary_unary(path)
        answer: bytes = await method(request, timeout=TIMEOUT)
        return answer

    def stream(self, path: str, request: bytes, on_message: OnMessage) -> None:
        async def read() -> None:
            call = self._channel.stream_stream(path)()
            await call.write(request)
            while (message := await call.read()) is not grpc.aio.EOF:
                on_message(message)

        self._tasks.append(asyncio.get_running_loop().create_task(read()))
