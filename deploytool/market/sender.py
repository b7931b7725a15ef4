"""The senders, as an inventory's ``gateway`` and ``membership`` commands want them.

``python -m deploytool.market.sender --control gateway.sock observe``

With several ``--control`` it speaks for all of those gateways: each has to answer. It prints one
JSON object and exits 0; where a gateway doesn't answer or refuses it exits 1 and names it, after
every other one was told.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Final

from deploytool.market.control import ControlFault, Json, ask
from deploytool.market.link import LinkState

_ASK_S: Final = 3.0


def observation(told: Json, sessions: Json) -> Json:
    """What one gateway uses, and to whom it is logged in now, as which release.

    A bit counts as long as new messages carry it, a router may have one that was never
    acknowledged, or a parent that carries it is open or in doubt.
    """
    bits = {int(bit) for part in ("unacknowledged", "open") for bit in told[part]}
    return {
        "taken": min(told["wall"], sessions["wall"]),
        "bits": sorted(bits | set(told["bits"])),
        "sessions": {
            session["host"]: [session["release"]]
            for session in sessions["sessions"]
            if session["standing"] == LinkState.TRUSTED.value
        },
    }


def together(seen: Sequence[Json]) -> Json:
    """What all gateways do; as old as the oldest of their answers."""
    sessions: dict[str, set[str]] = {}
    for one in seen:
        for host, releases in one["sessions"].items():
            sessions.setdefault(host, set()).update(releases)
    return {
        "taken": min(one["taken"] for one in seen),
        "bits": sorted({bit for one in seen for bit in one["bits"]}),
        "sessions": {host: sorted(releases) for host, releases in sorted(sessions.items())},
    }


def membership(seen: Json) -> Json:
    """The hosts that take traffic: those that a gateway has a live session with."""
    return {"taken": seen["taken"], "serving": sorted(seen["sessions"])}


def main(arguments: Sequence[str] | None = None) -> int:
    """Tell or ask every gateway; return the exit code."""
    given = _parser().parse_args(arguments)
    seen: list[Json] = []
    faults: list[str] = []
    for control in given.control:
        try:
            seen.append(_one(given, partial(ask, control, timeout_s=_ASK_S)))
        except (ControlFault, KeyError, TypeError, ValueError) as error:
            faults.append(f"{control}: {error}")
    if faults:
        print("\n".join(faults), file=sys.stderr)
        return 1
    whole = together(seen)
    print(json.dumps(membership(whole) if given.command == "membership" else whole))
    return 0


def _one(given: argparse.Namespace, gateway: Callable[..., Json]) -> Json:
    if given.command == "use":
        gateway("use", bit=given.bit, release=given.release)
    elif given.command == "withdraw":
        gateway("withdraw", bit=given.bit)
    return observation(gateway("observe"), gateway("sessions"))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description="Tells and asks the gateways of a rehearsal")
    parser.add_argument("--control", type=Path, action="append", required=True)
    commands = parser.add_subparsers(dest="command", required=True)
    use = commands.add_parser("use", help="set a bit, only on sessions that showed the release")
    use.add_argument("bit", type=int)
    use.add_argument("--release", required=True, help="SHA-256 of the certified release")
    commands.add_parser("withdraw", help="set it no more").add_argument("bit", type=int)
    commands.add_parser("observe", help="what is in use, and who is logged in where")
    commands.add_parser("membership", help="the hosts that take traffic")
    return parser


if __name__ == "__main__":
    raise SystemExit(main())
