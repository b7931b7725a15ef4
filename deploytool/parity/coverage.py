"""What a proof does not cover: it is printed with it, and docs/proof.md says more. Pure."""

from __future__ import annotations

from deploytool.fleet.model import Inventory

NO_ROOT = "whole host: not proven (no root)"
NO_MEMBERS = "members: not proven (no root)"
_ALWAYS = (
    "hosts that were never prepared",
    "what root altered",
    "forged answers (they are not signed)",
    "an interpreter's compiled caches",
)


def uncovered(inventory: Inventory) -> tuple[str, ...]:
    """What MATCH and PARITY say nothing about on this fleet, the gravest first."""
    rootless = (NO_ROOT, NO_MEMBERS) if inventory.service.supervisor != "systemd" else ()
    venues = () if inventory.service.connects else ("venues (service.connects is empty)",)
    checked = inventory.service.redirects == "checked"
    redirects = () if checked else ("port redirects where no tool shows them",)
    return (*rootless, *_ALWAYS, *redirects, *venues)
