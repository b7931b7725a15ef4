"""What the running process says of itself."""

import time
from typing import TYPE_CHECKING, Any

from router.latch import ACTIVE, HALTED, REDUCING

if TYPE_CHECKING:
    from router.engine import Engine
    from router.release import Process, Release

COUNTERS = ("parents", "open_parents", "executions", "executed_qty", "rejects", "flag_rejects",
            "duplicates", "market_rejects", "cancels", "repeated", "bad_input",
            "dropped_reports")  # fmt: skip


def counters(engine: "Engine") -> dict[str, int]:
    """Give everything that is counted."""
    found = {name: int(getattr(engine.counters, name)) for name in COUNTERS}
    down = sum(not child.venue.up for child in engine.gate.children.values())
    found["children"] = engine.gate.released
    found["working"] = len(engine.gate.children) - down
    found["in_doubt"] = down + len(engine.lost)
    return found


def reason(engine: "Engine") -> str:
    """Say why the router isn't ACTIVE, else nothing."""
    if engine.latch.state == ACTIVE and engine.risk.blocked:
        return f"not configured, and what isn't configured blocks: {engine.missing_limits}"
    if engine.latch.state == ACTIVE and not engine.risk.leased:
        return "no lease yet: nobody has renewed it since this process started"
    return "" if engine.latch.state == ACTIVE else engine.latch.reason


def trading_state(engine: "Engine") -> str:
    """Say whether children can leave: without all limits, or without a lease, they can't."""
    risk = engine.risk
    return HALTED if risk.blocked or not risk.leased else engine.latch.state


def sent(engine: "Engine", process: "Process") -> dict[str, Any] | None:
    """Say how many children left for the market, and how long ago the last one did."""
    return engine.sent.shown(time.monotonic(), process.started_s)


def status(engine: "Engine", release: "Release", process: "Process", host: str) -> dict[str, Any]:
    """Give the object of the artifact contract, and more."""
    return {
        "name": "router",
        "release": release.sha256,
        "version": release.version,
        "revision": release.info["source"],
        "rehearsal_only": release.info["rehearsal_only"],
        "pid": process.pid,
        "start_ticks": process.start_ticks,
        "boot_id": process.boot_id,
        "uptime_s": round(time.monotonic() - process.started_s, 3),
        "host": host,
        "flag_table": engine.flags.digest,
        "wire": engine.flags.wire,
        "armed": engine.flags.armed(),
        "epoch": engine.flags.epoch,
        "flags": engine.flags.states(),
        "trading_state": trading_state(engine),
        "reason": reason(engine),
        "latch": engine.latch.latch_id,
        "by": engine.latch.by,
        # Asked only while nothing trades: it looks at every parent.
        "cause": (engine.cause(time.monotonic()) or None) if engine.latch.latch_id else None,
        "lease": engine.lease.shown(),
        "draining": engine.risk.draining,
        "missing_limits": engine.missing_limits,
        "venues": [
            {
                "name": venue.name,
                "up": venue.up,
                "why": venue.why_down,
                "session": venue.session,
                "next_sequence": venue.next_sequence,
            }
            for venue in engine.venues
        ],
        "clients": sorted(user.name for user in engine.users.values() if user.out is not None),
        "positions": {
            book.name: {"position": book.position, "cost": book.cost}
            for book in engine.books.values()
            if book.position or book.cost
        },
        "counters": counters(engine),
        "sent": sent(engine, process),
    }


def metrics(engine: "Engine", release: "Release", process: "Process", host: str) -> str:
    """Give Prometheus text."""
    shown = status(engine, release, process, host)
    labels = f'release="{shown["release"]}",version="{shown["version"]}",host="{host}"'
    now = shown["trading_state"]
    lines = ["# TYPE router_info gauge", f"router_info{{{labels}}} 1"]
    lines.append("# TYPE router_trading_state gauge")
    lines += [
        f'router_trading_state{{state="{state}"}} {int(state == now)}'
        for state in (ACTIVE, REDUCING, HALTED)
    ]
    lines.append("# TYPE router_flag_armed gauge")
    for flag in shown["flags"]:
        on = int(flag["state"] in ("always", "armed", "provisional"))
        lines.append(f'router_flag_armed{{flag="{flag["name"]}",bit="{flag["bit"]}"}} {on}')
    lines.append("# TYPE router_venue_up gauge")
    lines += [f'router_venue_up{{venue="{v["name"]}"}} {int(v["up"])}' for v in shown["venues"]]
    gauges = ("working", "in_doubt", "open_parents")
    for name, value in sorted(shown["counters"].items()):
        kind, suffix = ("gauge", "") if name in gauges else ("counter", "_total")
        lines.append(f"# TYPE router_{name}{suffix} {kind}")
        lines.append(f"router_{name}{suffix} {value}")
    account = engine.account
    for name in ("position", "position_value", "working_value"):
        lines.append(f"# TYPE router_account_{name} gauge")
        lines.append(f"router_account_{name} {getattr(account, name)}")
    return "\n".join(lines) + "\n"
