"""Who saw the silence: the market, as an inventory's ``silence`` command wants it.

``python -m deploytool.market.witness --control market.sock --hosts router.json``

It prints when the last child order of each host came, as the market saw it, whatever became of
the order; a host that never sent one has a null. ``--hosts`` names the routers' configuration,
which says what login a host has at the market; a login that is nobody's is told as it is. With
several ``--control`` every market has to answer: where one doesn't, this exits 1 and names it,
since a market that wasn't asked has seen nothing.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from deploytool.market.control import ControlFault, Json, ask

_ASK_S: Final = 15.0
"""Whoever asks this witness has a deadline of his own (``silence.timeout_s``)."""


def seen_by_all(told: Sequence[Json], logins: Mapping[str, str]) -> Json:
    """What all markets together saw, as old as the oldest of their answers.

    ``logins`` says which host has which login. Seconds since the epoch.
    """
    last: dict[str, float | None] = dict.fromkeys(logins.values())
    for market in told:
        for login, seen in market["hosts"].items():
            host, at = logins.get(login, login), seen["wall"]
            known = last.get(host)
            last[host] = at if known is None else max(known, at or known)
    return {
        "taken": min(market["wall"] for market in told),
        "last_child": dict(sorted(last.items())),
    }


def read_logins(path: Path | None) -> dict[str, str]:
    """Which host has which login, out of the routers' configuration.

    Raises:
        OSError, ValueError, KeyError, TypeError, AttributeError: it is none, or can't be read.
    """
    if path is None:
        return {}
    hosts = json.loads(path.read_bytes())["hosts"]
    return {str(entry["login"]): str(host) for host, entry in hosts.items()}


def main(arguments: Sequence[str] | None = None) -> int:
    """Ask every market; return the exit code."""
    parser = argparse.ArgumentParser(description="When the last child order of each host came")
    parser.add_argument("--control", type=Path, action="append", required=True)
    parser.add_argument("--hosts", type=Path, help="router.json: which host has which login")
    given = parser.parse_args(arguments)
    told: list[Json] = []
    faults: list[str] = []
    for control in given.control:
        try:
            told.append(ask(control, "silence", _ASK_S))
        except (ControlFault, ValueError) as error:
            faults.append(str(error))
    if not faults:
        try:
            print(json.dumps(seen_by_all(told, read_logins(given.hosts))))
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            faults.append(f"{given.hosts}: which host has which login can't be read: {error!r}")
    if faults:
        print("\n".join(faults), file=sys.stderr)
    return 1 if faults else 0


if __name__ == "__main__":
    raise SystemExit(main())
