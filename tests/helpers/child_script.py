"""A function for scripts of tests: it runs another function in a forked child."""

from __future__ import annotations

__all__ = ("CHILD",)

CHILD = """
import os

def child(function):
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            function()
            status = 0
        finally:
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
"""
"""Defines ``child(function)``, which returns 0 if the function has raised nothing."""
