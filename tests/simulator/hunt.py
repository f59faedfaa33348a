"""Play seeds until one of them violates something. Print it as JSON: the planted bugs are hunted so.

PYTHONPATH=folder-of-a-changed-package:. python -m tests.simulator.hunt 0 1000
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence

from tests.simulator.run import backend_of
from tests.simulator.verdict import judge, plan_of

__all__ = ("hunt", "main")


def hunt(seeds: Sequence[int]) -> Iterator[dict[str, object]]:
    """Yield the first violation, with its seed."""
    for tried, seed in enumerate(seeds, 1):
        verdict = judge(plan_of(seed), backend_of(seed))
        if verdict.violations:
            violation = verdict.violations[0]
            yield {"seed": seed, "tried": tried, "rule": violation.rule, "text": violation.text[-300:]}
            return


def main() -> None:
    """Run it."""
    first, count = map(int, sys.argv[1:3])
    print(json.dumps(next(hunt(range(first, first + count)), None)))


if __name__ == "__main__":
    main()
