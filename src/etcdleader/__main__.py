"""``python -m etcdleader`` is the command ``etcdleader``."""

from __future__ import annotations

from ._cli import main

main()
