"""What a proof does not cover: it is printed with it, and docs/proof.md says more. Pure."""

from __future__ import annotations

from deploytool.fleet.model import Inventory

NO_ROOT = "whole host: not proven (no root)"
_ALWAYS = (
    "hosts not in the inventory",
    "what root altered",
    "forged answers (they are not signed)",
    "port redirects",
    "an interpreter's source files",
)


def uncovered(inventory: Inventory) -> tuple[str, ...]:
    """What MATCH and PARITY say nothing about on this fleet, the gravest first."""
    rootless = (NO_ROOT,) if inventory.service.supervisor != "systemd" else ()
    venues = () if inventory.service.connects else ("venues (service.connects is empty)",)
    return (*rootless, *_ALWAYS, *venues)
