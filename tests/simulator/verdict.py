"""Play a plan and judge it by the checker of the fault suite."""

from __future__ import annotations

import logging
import traceback
from dataclasses import dataclass
from typing import Literal

from tests.faults.checker import Violation, check
from tests.faults.history import History
from tests.faults.loader import load
from tests.simulator.faults import GROUPS
from tests.simulator.liveness import check_liveness
from tests.simulator.plan import Plan, draw_plan
from tests.simulator.play import play
from tests.simulator.world import Outcome

__all__ = ("FAULT_NAMES", "Backend", "Verdict", "judge", "plan_of")

Backend = Literal["asyncio", "trio"]

FAULT_NAMES = tuple(fault.__name__ for group in GROUPS.values() for fault in group)
"""The names to draw from."""


@dataclass
class Verdict:
    """A run and what was wrong with it.

    Attributes:
        history: The run's history. Empty if the run itself failed.
        violations: What did not hold.
    """

    outcome: Outcome
    history: History | None
    violations: list[Violation]

    @property
    def rules(self) -> tuple[str, ...]:
        """The rules that did not hold."""
        return tuple(dict.fromkeys(violation.rule for violation in self.violations))


def plan_of(seed: int, *, seconds: float | None = None) -> Plan:
    """Return the plan of a seed, with all faults to draw from."""
    return draw_plan(seed, FAULT_NAMES, seconds=seconds)


def judge(plan: Plan, backend: Backend) -> Verdict:
    """Play a plan and check its history. An exception that leaves the run is a violation, too."""
    root = logging.getLogger("etcdleader")
    disabled, root.disabled = root.disabled, True
    logging.disable(logging.CRITICAL)
    try:
        outcome = play(plan, backend)
    except Exception as error:  # noqa: BLE001 - whatever it is, the library must not raise it here
        text = "".join(traceback.format_exception(_innermost(error), limit=-3)).strip()
        return Verdict(Outcome([]), None, [Violation("crash", text, 0.0)])
    finally:
        root.disabled = disabled
        logging.disable(logging.NOTSET)
    history = load(outcome.lines)["sim"]
    late = check_liveness(history, 2 * plan.latency[1], plan.election_timeout)
    return Verdict(outcome, history, check(history) + late)


def _innermost(error: BaseException) -> BaseException:
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error
