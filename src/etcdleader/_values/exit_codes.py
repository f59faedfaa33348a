"""The exit statuses of this library's processes."""

from __future__ import annotations

from enum import IntEnum, unique


@unique
class ExitCode(IntEnum):
    """An exit status. The values from 64 to 78 are from ``sysexits.h``, larger ones are the shell's.

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
    """The command's supervisor was killed, or the process ended itself because work outlived its lease."""
    NO_SERVICE = 71
    """The pages of ``--http`` cannot be served."""
    IO = 74
    """The output cannot be written."""
    NOT_YET = 75
    """The leader has not resigned in time, or another candidate leads."""
    REGRESSED = 76
    """etcd's revision went backwards, as after a restored backup."""
    REFUSED = 77
    """etcd refused the credentials, the permission or the certificate."""
    CONFIG = 78
    """The settings are wrong."""
    NOT_EXECUTABLE = 126
    """The command cannot be executed."""
    NOT_FOUND = 127
    """The command does not exist."""
    SIGNAL = 128
    """A signal ended the process. The signal's number is added to this value."""
