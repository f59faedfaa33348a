"""A campaign of hundreds of elections. Each candidate's process campaigns in all of them.

The rows are those of one election. A row that deletes a key deletes one election's key, and that election is drawn again
each time. A fault of a process, a member or a network affects all elections. Each election has its own history, which is
checked as if it were alone.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Mapping

from tests.faults.campaign import Campaign, NoHolderError
from tests.faults.candidate import Candidate

__all__ = ("MANY_ELECTIONS", "ManyCampaign")

MANY_ELECTIONS = "faults/many"
_LOOK_EVERY = 0.05
_PATIENCE = 20.0


class ManyCampaign(Campaign):
    """A campaign with many elections."""

    @property
    def elections(self) -> tuple[str, ...]:
        """Return the names of the elections."""
        return self.options.elections

    @property
    def prefix(self) -> str:
        return f"{super().prefix}{self.aim}/"

    @property
    def aim(self) -> str:
        """Return the election that the next fault affects."""
        return self.candidates[0].aim if self.candidates else self.elections[0]

    def field(self) -> None:
        super().field()
        self.take_aim(self.elections[0])

    def take_aim(self, name: str) -> None:
        """Aim at this election from now on."""
        for candidate in self.candidates:
            candidate.aim = name

    def tokens(self) -> dict[str, int]:
        found: dict[str, int] = {}
        for candidate in self.candidates:
            if candidate.running:
                for name, token in candidate.tokens.items():
                    found[name] = max(found.get(name, 0), token)
        return found

    def settle(self, *, everybody: bool = False) -> Candidate:
        self.take_aim(self.chance.choice(self.elections))
        super().settle(everybody=everybody)
        self.wait_all_led(self.elections)
        return self.wait_holder()

    def hand_all_over(self) -> None:
        """Let every leader resign, so that another process leads everywhere.

        Raises:
            NoHolderError: That does not happen.
        """
        before = self.tokens()
        for name in self.elections:
            self.take_aim(name)
            self.wait_holder().send_command("resign")
        until = time.monotonic() + _PATIENCE
        while not self._all_led_anew(before):
            if time.monotonic() > until:
                raise NoHolderError(f"no new leader in every election after {_PATIENCE:g} s")
            self.sleep(_LOOK_EVERY)

    def _all_led_anew(self, before: Mapping[str, int]) -> bool:
        after = self.tokens()
        return all(after.get(name, 0) > token for name, token in before.items())

    def wait_all_led(self, names: Collection[str], timeout: float = 25.0) -> None:
        """Wait until each of these elections has a leader.

        Raises:
            NoHolderError: Some have none.
        """
        until = time.monotonic() + timeout
        while left := set(names) - self.tokens().keys():
            if time.monotonic() > until:
                break
            self.look()
            time.sleep(_LOOK_EVERY)
        else:
            return
        some = ", ".join(sorted(left)[:5])
        raise NoHolderError(f"no leader in {len(left)} of {len(names)} elections after {timeout:g} s: {some}")
