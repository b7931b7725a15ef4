"""The kill switch under full load: host by host, then all at once with hosts that don't obey."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from deploytool.market.load import MAX_PARENTS, Load
from deploytool.rehearsal.fleets.files import LIMITS
from deploytool.rehearsal.scenarios.model import Scenario, Showing
from deploytool.rehearsal.scenarios.stopdrill import failures, report
from deploytool.rehearsal.scenarios.stopdrill.environment import Said, Setting, setting
from deploytool.rehearsal.scenarios.stopdrill.ignores_signals import build_deaf
from deploytool.rehearsal.scenarios.stopdrill.restart import start_again
from deploytool.rehearsal.scenarios.stopdrill.stray import LOGIN, Stray, stray
from deploytool.rehearsal.stage import Stage
from deploytool.rehearsal.trading import Trading
from deploytool.release.build import build
from deploytool.release.model import Release
from deploytool.stop.silence import MOVED_S

_PER_S = 500.0
FACTOR_AT_MOST = 2.0
"""A kill switch has one deadline for all hosts: slower ones are killed before they can obey."""
_READY_S = 120.0
_POLL_S = 0.1
_FILL_S = 0.2
"""Orders work for so long, so that there is always something to cancel."""
_UNVERIFIED_S = 8.0
"""More than a round of the watch, and more than a renewal."""
_LAG_S = 3.0
"""A busy market sees what was sent so much later."""
_OLD = "2026.0"
_AFTER_S = 3.0
"""So long nobody may come back after all are stopped."""


@dataclass(frozen=True)
class _Cast:
    """Who plays what. ``revived`` is None where no supervisor starts anything again."""

    hung: str
    cut_off: str
    deaf: str
    revived: str | None
    visited: str
    """On whose machine an old build was left running, outside of the release root."""
    seen: bool
    """Root sees the whole host there: the stop finds the old build by its bytes, and kills it."""


def stop_drill(stage: Stage, showing: Showing) -> None:
    """Stops every host of a fleet under load, twice, and writes the table down."""
    failures.needs()
    names = [host.name for host in stage.record.hosts]
    hung, cut_off, deaf, revived = names[-4:]
    machines = stage.fleet.kind != "local"
    cast = _Cast(hung, cut_off, deaf, revived if machines else None, names[1], machines)
    # The store is where the release that is deployed lies: two folders up from its artifact.
    store = Path(stage.baseline.artifact).parents[1]
    ghost, old = build_deaf(store, stage.source), build(store, stage.source, _OLD)
    with setting(stage, cut_off) as here, ExitStack() as stack:
        here.prepare()
        first = here.stage.deploy(stage.baseline)
        showing.point(first.exit_code == 0, f"baseline deployed: {first.text}")
        if first.exit_code != 0:
            return
        trading = stack.enter_context(here.stage.trading())
        stack.enter_context(here.witnessed(trading.flow.market.control))
        stack.enter_context(here.watched())
        if not _flowing(here, trading, showing, (stage.baseline, ghost)):
            return
        singly = _one_by_one(here, showing)
        if not _again(here, trading, showing):
            return
        left = stack.enter_context(stray(here.host_shell(cast.visited), old, trading.flow))
        showing.point(True, f"{cast.visited}: an old build trades there as {LOGIN}")  # noqa: FBT003
        together = _all_at_once(here, trading, showing, cast, ghost, left)
        _keep(here, singly, together)


def _flowing(
    here: Setting, trading: Trading, showing: Showing, trusted: tuple[Release, ...]
) -> bool:
    flow, count, lease_s = trading.flow, len(here.hosts), here.lease_s
    flow.quote(delay_s=_FILL_S)
    flow.trust([release.digest for release in trusted])
    ready = flow.wait_for_routers(count, _READY_S * here.slow)
    odd = [f"{m['host']} {m['standing']} {m.get('trading_state')}" for m in flow.members()]
    why = "" if ready else f": {', '.join(odd)}; the watch said {here.watch_said()}"
    showing.point(ready, f"{count} routers trade, their leases of {lease_s:g} s are renewed{why}")
    flow.send(load(here.slow))
    return ready


def load(slow: float) -> Load:
    """Parents for as long as any drill lasts, fewer in a second where hosts are slower."""
    return Load(MAX_PARENTS, LIMITS, rate=_PER_S / slow, qty=(1, 900), seed=11)


# --- host by host -------------------------------------------------------------------------------


def _one_by_one(here: Setting, showing: Showing) -> dict[str, dict[str, Any]]:
    """Each host is stopped while the others trade on."""
    rows: dict[str, dict[str, Any]] = {}
    for host in here.hosts:
        said = here.run("stop", "--host", host, "--reason", "drill")
        rows |= said.rows
        row = said.rows.get(host)
        text = report.row_text(row) if row else f"{host}: no answer: {said.errors[-500:]}"
        text += f" ({said.document['witness']})" if said.document.get("witness") else ""
        showing.point(said.code == 0, f"alone, exit {said.code}: {text}")
    return rows


def _again(here: Setting, trading: Trading, showing: Showing) -> bool:
    """Whoever asks can't confirm it; with a second person's signature all trade again."""
    alone, signed = start_again(here)
    showing.point(alone.code == 3, f"signed by the one who asks: exit {alone.code}, refused")
    wait_s = _READY_S * here.slow
    ready = signed.code == 0 and trading.flow.wait_for_routers(len(here.hosts), wait_s)
    told = "" if ready else f": {signed.errors[-1500:]}"
    showing.point(ready, f"signed by a second person: exit {signed.code}, all trade again{told}")
    return ready


# --- all at once --------------------------------------------------------------------------------


def _all_at_once(
    here: Setting,
    trading: Trading,
    showing: Showing,
    cast: _Cast,
    ghost: Release,
    left: Stray,
) -> dict[str, dict[str, Any]]:
    """One key for all, while four of them can't, won't or mustn't obey."""
    if cast.revived is not None:
        _revive(here, trading, showing, cast.revived)
        failures.hang(here.host_shell(cast.revived))
    failures.start_deaf(here.host_shell(cast.deaf), ghost)
    failures.hang(here.host_shell(cast.hung))
    trades = _wait_for_orders(here, trading, cast.deaf)
    showing.point(trades, f"{cast.deaf}: trades by a router that was started by hand")
    here.relay.stall()
    pressed = time.time()
    said = here.run("stop", "--all", "--reason", "drill")
    answered = time.time()
    rows = said.rows
    for host in here.hosts:
        row = rows.get(host)
        showing.point(row is not None, report.row_text(row) if row else f"{host}: not answered for")
    if set(rows) != set(here.hosts):
        showing.point(False, said.errors[-1000:])  # noqa: FBT003 the point did not hold
        return rows
    _judge(showing, cast, said, rows, answered - pressed)
    found = not left.runs()
    how = (
        "found by its bytes, and killed" if found else "not seen without root; the market heard it"
    )
    showing.point(found == cast.seen, f"{cast.visited}: the old build was {how}")
    left.end()
    ended = time.monotonic()
    _at_the_lease_end(trading, showing, cast, rows[cast.cut_off], (pressed, answered))
    _afterwards(here, trading, showing, cast, ended)
    return rows


def _revive(here: Setting, trading: Trading, showing: Showing, host: str) -> None:
    """A supervisor starts what was killed; with a lease that alone lets nothing trade."""
    back = failures.revived(here.host_shell(host))
    showing.point(back, f"{host}: its supervisor starts it again when it is killed")
    time.sleep(_LAG_S * here.slow)
    before = _last_orders(trading)[host]
    time.sleep(_UNVERIFIED_S * here.slow)
    showing.point(
        _last_orders(trading)[host] == before,
        f"{host}: that start was never verified, so its lease is not renewed and it sends nothing",
    )


def _wait_for_orders(here: Setting, trading: Trading, host: str) -> bool:
    """Whether the market sees orders of this host now."""
    since, ends = time.time(), time.monotonic() + _READY_S * here.slow
    while time.monotonic() < ends:
        seen = trading.flow.silence()["hosts"].get(host, {}).get("wall")
        if seen is not None and seen > since:
            return True
        time.sleep(_POLL_S)
    return False


def _judge(
    showing: Showing, cast: _Cast, said: Said, rows: Mapping[str, Mapping[str, Any]], took_s: float
) -> None:
    ends = report.ends(rows)
    visited = cast.visited if cast.seen else None
    killed = [host for host in (cast.hung, cast.deaf, cast.revived, visited) if host is not None]
    obeyed = [host for host in rows if host not in {*killed, cast.cut_off}]
    showing.point(
        all(ends[host] == "HALTED" for host in obeyed),
        f"{', '.join(obeyed)}: halted by the router itself",
    )
    showing.point(
        all(ends[host] == "DEAD" for host in killed),
        f"{', '.join(killed)}: fenced, then killed, then nothing left",
    )
    heard = said.document.get("strangers", {})
    showing.point(
        list(heard) == [LOGIN],
        f"whom the market heard and no inventory declares: {', '.join(heard) or 'not named'}",
    )
    silent = [host for host in (*obeyed, *killed) if rows[host]["silent"]]
    why = f": {said.document['witness']}" if said.document.get("witness") else ""
    showing.point(
        len(silent) == len(obeyed) + len(killed),
        f"the market saw the silence of {len(silent)}{why}",
    )
    named = rows[cast.cut_off]["lease_end"] is not None and not rows[cast.cut_off]["stopped"]
    showing.point(
        said.code == 6 and named,
        f"exit {said.code} after {took_s:.1f} s: {cast.cut_off} can't be told, and its lease's end "
        f"is named: {rows[cast.cut_off]['rests_on']}",
    )


def _at_the_lease_end(
    trading: Trading,
    showing: Showing,
    cast: _Cast,
    row: Mapping[str, Any],
    key: tuple[float, float],
) -> None:
    """Nobody reaches the host; what the market sees of it ends at the instant that was named.

    ``key``: when it was pressed, and when the stop had answered.
    """
    named, (pressed, answered) = row["lease_end"], key
    if named is None:
        return
    showing.point(
        answered < named,
        f"{cast.cut_off}: its end was named {named - answered:.1f} s before it came",
    )
    while time.time() < named + 1.0:
        time.sleep(_POLL_S)
    wall = trading.flow.silence()["hosts"][cast.cut_off]["wall"]
    showing.point(
        wall is not None and pressed < wall <= named,
        f"{cast.cut_off}: traded on until {(wall or 0) - pressed:.2f} s after the key, as the "
        f"market saw it; {named - pressed:.2f} s was the latest that was named",
    )


def _afterwards(
    here: Setting, trading: Trading, showing: Showing, cast: _Cast, ended: float
) -> None:
    """What was unreachable is reached, is found halted, and nobody comes back by itself."""
    here.relay.heal()
    _power_cut(here, showing, here.hosts[0])
    before = _last_orders(trading)
    time.sleep(_AFTER_S)
    after = _last_orders(trading)
    moved = sorted(host for host in after if after[host] != before[host])
    showing.point(not moved, f"no host traded in {_AFTER_S:g} s more: {', '.join(moved) or 'none'}")
    # What the market heard of a stranger lately counts against the stop, and rightly.
    time.sleep(max(0.0, ended + MOVED_S + _LAG_S * here.slow - time.monotonic()))
    said = here.run("stop", "--all", "--reason", "drill, once more")
    row = said.rows.get(cast.cut_off)
    shown = report.row_text(row) if row else said.errors[-500:]
    unproven = [
        report.row_text(r) for r in said.rows.values() if not (r["stopped"] and r["silent"])
    ]
    showing.point(said.code == 0, f"once more, exit {said.code}: {shown}")
    for text in unproven:
        showing.point(False, text)  # noqa: FBT003 the point did not hold


def _power_cut(here: Setting, showing: Showing, host: str) -> None:
    """A halted host loses its power; what comes up again is halted by the same latch."""
    if not failures.power_cut(here.host_shell(host)):
        return  # this kind of fleet has no hosts that boot
    ends, said = time.monotonic() + _READY_S * here.slow, None
    while said is None and time.monotonic() < ends:
        taken = here.stage.status().round
        seen = [v.evidence for v in (taken.hosts if taken else ()) if v.host == host]
        said = seen[0].status if seen and seen[0] is not None else None
    state, latch = (said or {}).get("trading_state"), (said or {}).get("latch")
    showing.point(
        state == "HALTED" and bool(latch), f"{host}: after a power cut it comes up {state}"
    )


def _last_orders(trading: Trading) -> dict[str, float | None]:
    """When the market saw the last order of each host, by its own steady clock."""
    return {host: seen["monotonic"] for host, seen in trading.flow.silence()["hosts"].items()}


def _keep(
    here: Setting,
    singly: Mapping[str, Mapping[str, Any]],
    together: Mapping[str, Mapping[str, Any]],
) -> None:
    """Keeps the table, for whoever asks later how fast the kill switch is."""
    stage = here.stage
    folder = stage.fleet.folder.parent / "drills"
    folder.mkdir(parents=True, exist_ok=True)
    when = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
    path = folder / f"stop-drill-{stage.fleet.kind}-{when}.json"
    document = {
        "release": str(stage.baseline.digest),
        "fleet": stage.fleet.kind,
        "lease_s": here.lease_s,
        "parents_per_s": _PER_S / here.slow,
        "one_by_one": list(singly.values()),
        "all_at_once": list(together.values()),
    }
    path.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
    stage.say(f"  the table is kept: {path}")


STOP_DRILL = Scenario(
    "stop-drill",
    "every host is stopped under load, one by one and at once, also those that don't obey",
    stop_drill,
    factor_at_most=FACTOR_AT_MOST,
)
