"""The TLS context of a client is made off the loop, once for the same files, and not before TCP."""

from __future__ import annotations

import os
import shutil
import socket
import ssl
import threading
from pathlib import Path
from typing import Any

import anyio
import pytest
import trustme

from etcdleader import EtcdConfig, EtcdRefusedError, EtcdUnavailableError
from etcdleader._etcd import endpoint, tls, tls_diagnosis
from etcdleader._etcd.api import Range
from etcdleader._etcd.client import new_client
from etcdleader._etcd.tls import ClientContexts
from etcdleader._runtime.tasks import loop_scheduler

pytestmark = [pytest.mark.anyio, pytest.mark.parametrize("anyio_backend", ["asyncio", "trio"])]


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Return the threads in which contexts were made."""
    threads: list[int] = []
    real = tls.client_context

    def client_context(config: EtcdConfig) -> ssl.SSLContext:
        threads.append(threading.get_ident())
        return real(config)

    monkeypatch.setattr(tls, "client_context", client_context)
    return threads


def certificate(path: Path) -> Path:
    trustme.CA().cert_pem.write_to_path(str(path))
    return path


async def test_a_context_is_kept_while_its_files_are_unchanged(tmp_path: Path, made: list[int]) -> None:
    ca = certificate(tmp_path / "ca.pem")
    contexts = ClientContexts(EtcdConfig("https://one:1", ca_cert=ca))
    first = await contexts.get()
    assert await contexts.get() is first
    before = ca.stat()
    shutil.copy(certificate(tmp_path / "new.pem"), ca)
    os.utime(ca, ns=(before.st_atime_ns, before.st_mtime_ns + 1_000_000_000))
    second = await contexts.get()
    assert second is not first
    replaced = certificate(tmp_path / "replaced.pem")
    replaced.rename(ca)  # as a Secret of Kubernetes is replaced
    assert await contexts.get() is not second
    assert len(made) == 3
    assert threading.get_ident() not in made, "the event loop went on meanwhile"
    await until_the_threads_have_ended()


async def test_a_context_is_kept_even_if_its_caller_was_cancelled_meanwhile(
    tmp_path: Path, made: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a busy machine it may take longer than an attempt to connect. No attempt would ever succeed."""
    contexts = ClientContexts(EtcdConfig("https://one:1", ca_cert=certificate(tmp_path / "ca.pem")))
    go_on = threading.Event()
    real = contexts._make

    def slow() -> ssl.SSLContext:
        go_on.wait(60)
        return real()

    monkeypatch.setattr(contexts, "_make", slow)
    async with anyio.create_task_group() as group:
        group.start_soon(contexts.get)
        await anyio.wait_all_tasks_blocked()
        group.cancel_scope.cancel()
    go_on.set()
    await until_the_threads_have_ended()
    await contexts.get()
    assert len(made) == 1


async def until_the_threads_have_ended() -> None:
    with anyio.fail_after(60):
        while any(thread.name == "etcdleader certificates" for thread in threading.enumerate()):
            await anyio.sleep(0.001)


async def test_a_context_from_files_that_changed_meanwhile_is_not_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two connections may request one at the same time, and the older files may be read last."""
    ca = certificate(tmp_path / "ca.pem")
    contexts = ClientContexts(EtcdConfig("https://one:1", ca_cert=ca))
    waits = [threading.Event(), threading.Event()]
    began = [anyio.Event(), anyio.Event()]
    real = contexts._make
    places = iter(range(2))
    call_soon = loop_scheduler()

    def make() -> ssl.SSLContext:
        made, place = real(), next(places)
        call_soon(began[place].set)
        waits[place].wait(60)
        return made

    monkeypatch.setattr(contexts, "_make", make)
    got: list[ssl.SSLContext] = []

    async def get() -> None:
        got.append(await contexts.get())

    with anyio.fail_after(60):
        async with anyio.create_task_group() as group:
            group.start_soon(get)
            await began[0].wait()
            certificate(tmp_path / "new.pem").rename(ca)
            group.start_soon(get)
            await began[1].wait()
            waits[1].set()
            while not got:
                await anyio.sleep(0.001)
            waits[0].set()
        monkeypatch.undo()
        newest = await contexts.get()
    assert newest is not got[1], "that one is from the older files"


@pytest.mark.parametrize("scheme", ["http", "https"])
async def test_the_tls_diagnosis_leaves_no_thread(scheme: str) -> None:
    """The diagnosis also resolves the member's name. A forked child would lack the thread."""

    async def hang_up(stream: anyio.abc.SocketStream) -> None:
        await stream.aclose()

    async with await anyio.create_tcp_listener(local_host="127.0.0.1") as listener, anyio.create_task_group() as group:
        before = set(threading.enumerate())
        group.start_soon(listener.serve, hang_up)
        port = listener.extra(anyio.abc.SocketAttribute.local_port)
        client = new_client(EtcdConfig(f"{scheme}://localhost:{port}"))
        with anyio.fail_after(60):
            with pytest.raises(EtcdUnavailableError):
                await client.range(Range(b"k"), timeout=30)
            await client.aclose()
            while any(
                thread.name in {"name resolution", "etcdleader certificates"} for thread in threading.enumerate()
            ):
                await anyio.sleep(0.001)
        group.cancel_scope.cancel()
    assert {thread for thread in threading.enumerate() if not thread.name.startswith("Trio")} <= before


async def test_an_invalid_file_is_refused_and_read_again(tmp_path: Path, made: list[int]) -> None:
    ca = tmp_path / "ca.pem"
    ca.write_text("nothing")
    contexts = ClientContexts(EtcdConfig("https://one:1", ca_cert=ca))
    for _ in range(2):
        with pytest.raises(EtcdRefusedError, match="holds no certificate"):
            await contexts.get()
        with pytest.raises(EtcdRefusedError, match="holds no certificate"):
            contexts.check()
    certificate(ca)
    assert await contexts.get() is not None


async def test_no_context_is_made_for_a_member_that_is_down(made: list[int], anyio_backend: Any) -> None:
    """With the system's authorities one takes tens of milliseconds, and in an outage each attempt would."""
    with socket.create_server(("127.0.0.1", 0)) as gone:
        address = f"https://127.0.0.1:{gone.getsockname()[1]}"
    client = new_client(EtcdConfig(address))
    for _ in range(3):
        with pytest.raises(EtcdUnavailableError):
            await client.range(Range(b"k"), timeout=5)
    await client.aclose()
    assert made == []


async def test_a_client_makes_one_context_for_all_its_connections(
    made: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The peer accepts connections and closes them. The TLS diagnosis uses the same context."""
    # An attempt that ends before the context is made lets the next one make another.
    for module, timeout in ((endpoint, "_CONNECT_TIMEOUT_SECONDS"), (tls_diagnosis, "_TIMEOUT_SECONDS")):
        monkeypatch.setattr(module, timeout, 60)

    async def hang_up(stream: anyio.abc.SocketStream) -> None:
        await stream.aclose()

    async with await anyio.create_tcp_listener(local_host="127.0.0.1") as listener, anyio.create_task_group() as group:
        group.start_soon(listener.serve, hang_up)
        address = f"https://127.0.0.1:{listener.extra(anyio.abc.SocketAttribute.local_port)}"
        client = new_client(EtcdConfig([address, address.replace("127.0.0.1", "localhost")]))
        with anyio.fail_after(60):
            for _ in range(4):
                used = client.endpoint_number
                with pytest.raises(EtcdUnavailableError):
                    await client.range(Range(b"k"), timeout=30)
                client.report_endpoint_failure(used)
        await client.aclose()
        group.cancel_scope.cancel()
    assert len(made) == 1
