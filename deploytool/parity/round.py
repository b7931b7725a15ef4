"""Takes evidence rounds: asks every host once, at the same time."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

from deploytool.errors import HostFault
from deploytool.fleet.fanout import fanout
from deploytool.fleet.host import Host
from deploytool.fleet.protocol import Call, Reply
from deploytool.parity.evidence import parse_evidence
from deploytool.parity.model import Evidence


def probe_call(
    release: tuple[str, str | None] | None = None,
    requires: tuple[str, ...] = (),
    *,
    disk: bool = True,
    only_target: bool = False,
) -> Call:
    """The call for one round.

    ``release`` (an artifact's SHA-256 and its manifest's) asks besides whether the host has it;
    with no manifest's digest, also for the label that it has there. ``only_target``: a process
    of another release than that isn't asked for its status.
    """
    arguments = [("requires", program) for program in requires]
    if release is not None:
        arguments.append(("release", release[0]))
        if release[1] is not None:
            arguments.append(("manifest", release[1]))
    arguments.append(("disk", "read" if disk else "skip"))
    if only_target:
        arguments.append(("ask", "target"))
    return Call("probe", tuple(arguments), changes=False)


def read(reply: Reply) -> Evidence:
    """The evidence in a reply that has just arrived.

    Raises:
        HostFault: it can't be read.
    """
    return parse_evidence(reply, time.time())


def take_round(
    hosts: Mapping[str, Host],
    call: Call,
    deadline_s: float,
    done: Callable[[str, Evidence | HostFault], None] = lambda _name, _outcome: None,
) -> dict[str, Evidence | HostFault]:
    """Asks every host; each gets its evidence or its fault."""

    def job(host: Host) -> Callable[[], Evidence]:
        return lambda: read(host.call(call, deadline_s=deadline_s))

    # The connection has a deadline of its own, which comes before the command's.
    return fanout(
        {name: job(host) for name, host in hosts.items()}, deadline_s=2 * deadline_s, done=done
    )
