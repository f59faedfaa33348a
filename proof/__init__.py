"""A model of the rule of leases in TLA+, and the program that checks it with TLC. docs/proof.md explains both."""

from __future__ import annotations
