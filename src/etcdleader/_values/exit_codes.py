"""How processes of this library end."""

from __future__ import annotations

from enum import IntEnum, unique


@unique
class ExitCode(IntEnum):
    """An exit status. From 64 to 78 they are those of ``sysexits.h``, above that those of shells.

    ``docs/commands.md`` and ``docs/run.md`` list them for each command.
    """

    OK = 0
    NO = 1
    """The election has no leader, a check found a problem, the user declined a confirmation, or the demo failed."""
    USAGE = 2
    """The command line is wrong."""
    UNAVAILABLE = 69
    """etcd did not answer."""
    BROKEN = 70
    """The supervisor of the command was killed, or the process ended itself because work outlived its lease."""
    NO_SERVICE = 71
    """The pages of ``--http`` cannot be served."""
    IO = 74
    """The output cannot be written."""
    NOT_YET = 75
    """The leader has not left in time, or another candidate leads."""
    REGRESSED = 76
    """etcd went back in time."""
    REFUSED = 77
    """etcd refused: login, permission or certificate."""
    CONFIG = 78
    """The settings are wrong."""
    NOT_EXECUTABLE = 126
    """The command cannot be executed."""
    NOT_FOUND = 127
    """There is no such command."""
    SIGNAL = 128
    """A signal ended it: the signal's number is added."""
