"""Work that does not end as soon as it is cancelled."""

from __future__ import annotations

import anyio

__all__ = ("work_until_cancelled",)


async def work_until_cancelled(cleanup: float) -> None:
    """Do nothing until it is cancelled, and then clean up for this many seconds."""
    try:
        await anyio.sleep_forever()
    finally:
        with anyio.CancelScope(shield=True):
            await anyio.sleep(cleanup)
