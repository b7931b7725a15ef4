"""Whether hosts trade after a switch as they did before it. Pure.

A switch changes the build and nothing else: a host that was ACTIVE has to be ACTIVE again, and a
halt that held before must hold after, under the same latch. A host that halts itself after it was
switched has not been deployed to, whatever bytes it runs.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Literal

from deploytool.core.finding import Finding
from deploytool.parity.model import Evidence, HostVerdict
from deploytool.parity.rules import unseen, wrong

Expectation = Literal["active", "halted"]
RULE = "trading"
_WAITS = "no lease"
"""How the reason begins of a process that only waits for its first lease (docs/contract.md)."""


@dataclass(frozen=True)
class Trading:
    """How one host traded. ``state`` None: it was not said, or nothing ran."""

    state: str | None = None
    latch: str = ""
    """What holds it: a latch of ``deploytool stop``, else the artifact's own; empty without one."""
    why: str = ""
    waits: bool = False
    """It is HALTED only until its first lease comes."""

    @staticmethod
    def of(evidence: Evidence) -> Trading:
        """As a host showed it. One that was stopped is HALTED, also where nothing runs."""
        said, halt = evidence.status or {}, evidence.halt
        if halt is not None:
            return Trading("HALTED", halt.latch or "unreadable", f"{halt.by}: {halt.reason}")
        state, reason = said.get("trading_state"), str(said.get("reason") or "")
        latch = str(said.get("latch") or "")
        waits = not latch and isinstance(said.get("lease"), dict) and reason.startswith(_WAITS)
        by = str(said.get("by") or "itself")
        return Trading(
            state if isinstance(state, str) else None,
            latch,
            f"{by}: {reason}" if reason else by,
            waits=state == "HALTED" and waits,
        )


def baseline(evidence: Evidence, *, touched: bool) -> Trading:
    """What a host is held to. ``touched``: an earlier rollout may have switched it already.

    What was before is not known of such a one, and its halt may be what the switch led to: it has
    to trade, unless ``deploytool stop`` holds it.
    """
    return Trading() if touched and evidence.halt is None else Trading.of(evidence)


def held_to(verdict: HostVerdict, was: Trading, expected: Expectation = "active") -> HostVerdict:
    """The verdict, with what is wrong with how the host trades now."""
    if verdict.evidence is None or verdict.evidence.release is None:
        return verdict
    found = tuple(
        replace(finding, rule=RULE, host=verdict.host)
        for finding in _objections(was, Trading.of(verdict.evidence), expected)
    )
    return replace(verdict, findings=(*verdict.findings, *found))


def still_halted(seen: Mapping[str, Evidence]) -> dict[str, str]:
    """The hosts that are HALTED, by whom and why; not those that only wait for their first lease.

    Of hosts that were proven: then each is halted as it was before.
    """
    halted = {host: Trading.of(item) for host, item in seen.items()}
    return {
        host: f"still HALTED by {now.why}" + (f" (latch {now.latch})" if now.latch else "")
        for host, now in halted.items()
        if now.state == "HALTED" and not now.waits
    }


def _objections(was: Trading, now: Trading, expected: Expectation) -> Iterator[Finding]:
    what = "trading state"
    if expected == "halted":
        if now.state != "HALTED":
            yield wrong(what, "HALTED, as the inventory expects it", now.state or "not said")
        return
    if was.state == "HALTED" and not was.waits:
        yield from _unchanged(what, was, now)
        return
    before = was.state if was.state == "REDUCING" else "ACTIVE"
    wanted = before if was.state is None or was.waits else f"{before}, as before"
    if now.state is None:
        if was.state is not None:
            yield unseen(what, wanted, "it does not say")
    elif was.latch and now.state == "ACTIVE":
        yield wrong(what, wanted, now.state, state=now.state)
    elif now.state not in {"ACTIVE", before} and not now.waits:
        yield wrong(what, wanted, f"{now.state}, by {now.why}", state=now.state)


def _unchanged(what: str, was: Trading, now: Trading) -> Iterator[Finding]:
    """A halt that held before: the same latch, or, without one, a process that may trade by now."""
    wanted = f"HALTED by {was.why}, as before"
    if now.state is None:
        yield unseen(what, wanted, "it does not say")
    elif was.latch and now.state != "HALTED":
        yield wrong(what, wanted, now.state, state=now.state)
    elif was.latch != now.latch and now.state == "HALTED" and not now.waits:
        yield wrong(what, wanted, f"HALTED by {now.why} (latch {now.latch or 'none'})")
