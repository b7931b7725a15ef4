"""Takes evidence rounds: asks every host once, at the same time."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping

from deploytool.agent.model import KnownRelease
from deploytool.agent.requests import Answer, Probe, Request
from deploytool.errors import HostFault
from deploytool.fleet.fanout import fanout
from deploytool.fleet.host import Host
from deploytool.parity.evidence import read_evidence
from deploytool.parity.model import Evidence


def probe_request(
    release: tuple[str, str | None] | None = None,
    requires: tuple[str, ...] = (),
    *,
    disk: bool = True,
    only_target: bool = False,
    status: bool = True,
    known: Iterable[KnownRelease] = (),
    surroundings: bool | None = None,
    whole: bool = False,
) -> Probe:
    """The request for one round.

    ``release`` (an artifact's SHA-256 and its manifest's) asks besides whether the host has it;
    with no manifest's digest, also for the label that it has there. ``only_target``: a process
    of another release than that isn't asked for its status; without ``status`` none is.
    ``known``: releases that are found wherever on the host they run. ``surroundings``: whether it
    is inspected what else may start the service; unless said, where disks are read. ``whole``:
    the libraries of interpreters are read although nothing shows that they were changed.
    """
    asked, manifest = release if release is not None else (None, None)
    return Probe(
        requires=requires,
        release=asked,
        manifest=manifest,
        read_disk=disk,
        only_target=only_target,
        ask=status,
        known=tuple(known),
        surroundings=disk if surroundings is None else surroundings,
        whole=whole,
    )


def ask(host: Host, request: Request, deadline_s: float) -> tuple[Answer, Evidence]:
    """Asks one host for something that is answered with evidence.

    Raises:
        HostFault: it did not answer, or with none.
    """
    asked_at = time.time()
    answer = host.call(request, deadline_s=deadline_s)
    return answer, read_evidence(answer, asked_at, time.time())


def look(host: Host, request: Probe, deadline_s: float) -> Evidence:
    """What one host shows.

    Raises:
        HostFault: nothing, and why.
    """
    return ask(host, request, deadline_s)[1]


def take_round(
    hosts: Mapping[str, Host],
    request: Probe,
    deadline_s: float,
    done: Callable[[str, Evidence | HostFault], None] = lambda _name, _outcome: None,
) -> dict[str, Evidence | HostFault]:
    """Asks every host; each gets its evidence or its fault."""

    def job(host: Host) -> Callable[[], Evidence]:
        return lambda: look(host, request, deadline_s)

    # The connection has a deadline of its own, which comes before the command's.
    return fanout(
        {name: job(host) for name, host in hosts.items()}, deadline_s=2 * deadline_s, done=done
    )
