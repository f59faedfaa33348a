"""The pictures of the documentation: what the commands show, on a real etcd.

    python tools/pictures.py

They are drawn by the code that the commands run, so a picture cannot show what no command does.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from io import StringIO
from pathlib import Path

import anyio
from rich._export_format import CONSOLE_SVG_FORMAT
from rich.console import Console

from etcdleader import Config, EtcdLeaderManager
from etcdleader._cli.demo.scenes import play
from etcdleader._cli.observe import _print_change
from etcdleader._cli.status import queue_table
from etcdleader._election.admin import connected, read_queue
from etcdleader.etcd3 import etcd3
from etcdleader.testing import EtcdServer

IMAGES = Path(__file__).parents[1] / "docs" / "images"
ELECTION = "jobs/nightly"
WIDTH = 100
# The reader's own font: rich's format fetches one from another server.
FORMAT = re.sub(r"@font-face \{\{.*?\}\}\s*", "", CONSOLE_SVG_FORMAT, flags=re.DOTALL)


def screen() -> Console:
    return Console(file=StringIO(), record=True, force_terminal=True, force_interactive=False, width=WIDTH)


def save(console: Console, name: str, title: str) -> None:
    IMAGES.mkdir(exist_ok=True)
    path = IMAGES / f"{name}.svg"
    path.write_text(console.export_svg(title=title, code_format=FORMAT, unique_id=name))
    print(path.name)


@asynccontextmanager
async def candidates(server: EtcdServer, *names: str) -> AsyncIterator[list[EtcdLeaderManager]]:
    """So many, in order; the first one leads."""
    managers = [
        EtcdLeaderManager(server.config, Config(id=name, lease=15, renew=3, retry=1), ELECTION) for name in names
    ]
    async with anyio.create_task_group() as group:
        for manager in managers:
            await group.start(manager.campaign)
        await managers[0].wait_elected()
        yield managers
        group.cancel_scope.cancel()


async def status(server: EtcdServer) -> None:
    """A queue in which a key stands that blocks it, when its turn comes."""
    host, _, port = server.endpoints[0].rpartition(":")
    client = etcd3.client(host, int(port))
    console = screen()
    async with candidates(server, "alpha", "beta", "gamma"), connected(server.config, timeout=5) as connection:
        client.put(f"{ELECTION}/test", "put by hand")
        console.print(queue_table(await read_queue(connection, ELECTION, timeout=5), console))
        client.delete(f"{ELECTION}/test")
    client.close()
    save(console, "status", f"etcdleader status {ELECTION}")


async def observe(server: EtcdServer) -> None:
    """Two changes of the leader, and the queue after them."""
    console = screen()
    async with candidates(server, "alpha", "beta", "gamma") as managers, connected(server.config, timeout=5) as etcd:
        for number, manager in enumerate(managers):
            term = await manager.wait_elected()
            _print_change(console, (term.identity, term.token))
            if number < 2:
                await manager.resign()
        await anyio.sleep(2)  # so that resigned candidates have rejoined the queue
        queue = await read_queue(etcd, ELECTION, timeout=5)
        console.print(queue_table(queue, console, caption="Ctrl-C to end"))
    save(console, "observe", f"etcdleader observe {ELECTION} --watch")


def demo() -> None:
    console = screen()
    play(console)
    save(console, "demo", "etcdleader demo")


if __name__ == "__main__":
    with EtcdServer() as etcd_server:
        anyio.run(partial(status, etcd_server))
        anyio.run(partial(observe, etcd_server))
    demo()
