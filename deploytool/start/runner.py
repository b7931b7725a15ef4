"""``deploytool start``: asks, in files that a second person signs; and then does it."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from shlex import quote

from deploytool.agent.model import KnownRelease
from deploytool.agent.requests import Answer, Confirm, Locked, Resume, Resumed, TakeLock, Unlock
from deploytool.core.finding import Finding, forbids
from deploytool.core.text import excerpt
from deploytool.errors import HostFault, InputError, Refused
from deploytool.fleet.fanout import fanout
from deploytool.fleet.host import Host, Payload
from deploytool.fleet.model import Inventory
from deploytool.fleet.signers import parse_signers
from deploytool.fleet.signing import BadSignature, verify
from deploytool.parity.host_notices import down
from deploytool.parity.judge import expect, shown_manifest
from deploytool.parity.model import Evidence, RoundAnswers, Verdict
from deploytool.parity.round import probe_request, take_round
from deploytool.parity.table import ProofUse, judge_host
from deploytool.parity.words import let_in_command
from deploytool.start.checks import (
    fleet_objections,
    host_objections,
    latch_of,
    people_objection,
    request_objections,
    stop_of,
    way_out,
)
from deploytool.start.request import BYTES_AT_MOST, LIFETIME_S, NAMESPACE, StartRequest, signing

_PLAN = "start"
"""What its lock is for, in the words of locks; no rollout has a plan of this name. A start that was
interrupted leaves it, and never stands in the way of the next."""
_LEASE_S = 30.0
"""So long a host that was let in again may wait for its first renewal."""
_POLL_S = 0.5


@dataclass(frozen=True)
class Signed:
    """A request with the signature that a second person put under it."""

    request: StartRequest
    content: bytes
    signature: str
    place: str


def signer_names(inventory: Inventory, inventory_named: str) -> frozenset[str]:
    """The names of those who may ask and sign.

    Raises:
        InputError: the inventory names no signers: nobody could be told from another.
    """
    if inventory.signers is None or inventory.allowed_signers is None:
        raise InputError(
            "The inventory names no signers.",
            "Nothing was started: one person can't be told from another.",
            "Name an allowed-signers file under signers:, and: deploytool host prepare. Until then "
            "only root on a host lets it in: "
            + let_in_command("HOST", inventory_named, inventory.service.supervisor),
        )
    found = parse_signers(inventory.allowed_signers, inventory.signers)
    return frozenset(signer.name for signer in found)


def probe(
    inventory: Inventory, hosts: Mapping[str, Host], known: tuple[KnownRelease, ...] = ()
) -> RoundAnswers:
    """One whole round, disks included. ``known``: releases that are looked for on every host."""
    return take_round(hosts, probe_request(known=known), inventory.ssh.command_timeout_s)


def ask(
    inventory: Inventory,
    seen: RoundAnswers,
    chosen: tuple[str, ...],
    by: str,
    reason: str,
    now: int,
    inventory_name: str,
    flags: tuple[Finding, ...],
) -> tuple[StartRequest, ...]:
    """The requests for the hosts that are chosen; with none chosen, for all that are stopped.

    ``now``: when the look at the hosts began, in seconds since the epoch. ``inventory_name`` is
    what the inventory is called in advice; ``flags``: what the senders' bits have against it
    (start/flag_checks.py).

    Raises:
        Refused: a rule forbids to start them; nothing was changed.
    """
    names = signer_names(inventory, inventory_name)
    if by not in names:
        only = people_objection(
            StartRequest(by, inventory.fleet, "-", "-", "-", 0, 1, "-"), "", names
        )
        raise refused((only,) if only else (), inventory_name, chosen)
    found = [*fleet_objections(inventory, seen, shown_manifest(seen)), *flags]
    requests = []
    for host in inventory.names:
        evidence = seen[host]
        if (chosen and host not in chosen) or not isinstance(evidence, Evidence):
            continue
        if not chosen and not latch_of(evidence):
            continue
        found += host_objections(host, evidence)
        latch, stop, ends = latch_of(evidence), stop_of(evidence), now + LIFETIME_S
        requests.append(StartRequest(by, host, inventory.fleet, latch, reason, now, ends, stop))
    if not requests and not found:
        found.append(forbids(inventory.fleet, "START_NOT_STOPPED", "no host is stopped"))
    if found:
        raise refused(tuple(found), inventory_name, chosen)
    return tuple(requests)


def refused(
    objections: tuple[Finding, ...],
    inventory: str,
    chosen: tuple[str, ...],
    requests: tuple[str, ...] = (),
) -> Refused:
    """The refusal that says all of it. ``requests``: the files that were signed, if any."""
    rules = sorted({objection.rule for objection in objections})
    if trading := dict.fromkeys(o.host for o in objections if o.rule == "START_TRADES"):
        chosen = tuple(trading)
    return Refused(
        rules[0],
        f"Refused by {', '.join(rules)}.",
        "Nothing was started, and nothing was changed: what was stopped stays stopped.",
        way_out({*rules}, quote(inventory), chosen, requests),
        tuple(o.line for o in objections),
    ).found(objections)


def write(requests: tuple[StartRequest, ...], folder: Path) -> tuple[Path, ...]:
    """One file a request, for the second person to sign.

    Raises:
        InputError: they can't be written, or stand there already.
    """
    places = []
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for request in requests:
            place = folder / f"{request.host}.request"
            with place.open("xb") as file:
                file.write(request.canonical())
            places.append(place)
    except OSError as error:
        raise InputError(
            f"The requests can't be written: {error}",
            "Nothing was started.",
            "Name another folder with --out DIR",
        ) from error
    return tuple(places)


def read(places: tuple[Path, ...], signatures: tuple[Path, ...]) -> tuple[Signed, ...]:
    """Requests and their signatures; a folder stands for every request in it.

    Raises:
        InputError: a file is missing, or is not what it has to be.
    """
    files = [f for p in places for f in (sorted(p.glob("*.request")) if p.is_dir() else [p])]
    if signatures and len(signatures) != len(files):
        raise _unreadable(f"{len(files)} requests, and {len(signatures)} signatures")
    beside = signatures or tuple(Path(f"{file}.sig") for file in files)
    signed = []
    for file, signature in zip(files, beside, strict=True):
        try:
            content = file.read_bytes()[: BYTES_AT_MOST + 1]
            text = signature.read_text(encoding="ascii")[: BYTES_AT_MOST + 1]
            signed.append(Signed(StartRequest.parse(content), content, text, str(file)))
        except FileNotFoundError as error:
            if not file.is_file():
                raise _unreadable(f"there is no {file}") from error
            raise _unreadable(f"{file} is not signed: there is no {signature}", files) from error
        except (OSError, ValueError) as error:
            raise _unreadable(f"{file}: {error}", files) from error
    hosts = [one.request.host for one in signed]
    if not signed or len(set(hosts)) != len(hosts):
        raise _unreadable("no request was named" if not signed else "two requests for one host")
    return tuple(signed)


def _unreadable(text: str, files: Sequence[Path] = ()) -> InputError:
    return InputError(
        f"No signed request: {text}.",
        "Nothing was started.",
        f"The second person signs each file: {signing(tuple(map(str, files)) or ('FILE',))}",
    )


def check(
    inventory: Inventory,
    signed: tuple[Signed, ...],
    seen: RoundAnswers,
    now: float,
    inventory_name: str,
    flags: tuple[Finding, ...],
) -> None:
    """Everything that forbids what is asked for, all at once.

    ``inventory_name`` is what the inventory is called in advice; ``flags`` as in ``ask``.

    Raises:
        Refused: something does.
    """
    names = signer_names(inventory, inventory_name)
    found = [*fleet_objections(inventory, seen, shown_manifest(seen)), *flags]
    for one in signed:
        request, host = one.request, one.request.host
        if host not in inventory.hosts:
            found.append(forbids(host, "START_HOST", "is not in the inventory"))
            continue
        evidence = seen[host]
        found += request_objections(request, inventory, evidence, now)
        if isinstance(evidence, Evidence):
            found += host_objections(host, evidence)
        try:
            signer = verify(one.content, one.signature, Path(str(inventory.signers)), NAMESPACE)
        except BadSignature as error:
            found.append(forbids(host, "START_SIGNATURE", str(error)))
            continue
        if (objection := people_objection(request, signer, names)) is not None:
            found.append(objection)
    if found:
        hosts = tuple(one.request.host for one in signed)
        places = tuple(one.place for one in signed)
        raise refused(tuple(found), inventory_name, hosts, places)


def begin(
    inventory: Inventory,
    hosts: Mapping[str, Host],
    signed: tuple[Signed, ...],
    seen: RoundAnswers,
    by: str,
) -> dict[str, str]:
    """Starts them, all at once; in words why one was not, or nothing where it trades again.

    A process that was started anew is verified like a deployment's, so that it is renewed, and
    then asked again. ``by`` is who does this, as locks name it.
    """
    first = _each(inventory, hosts, signed, seen, 0.0)
    again = tuple(one for one in signed if "(LEASE)" in first[one.request.host])
    begun = tuple(one.request.host for one in signed if starts_anew(seen[one.request.host]))
    _verify(inventory, {host: hosts[host] for host in begun}, seen, by)
    return {**first, **_each(inventory, hosts, again, seen, _LEASE_S)}


def _each(
    inventory: Inventory,
    hosts: Mapping[str, Host],
    signed: tuple[Signed, ...],
    seen: RoundAnswers,
    lease_s: float,
) -> dict[str, str]:
    service = inventory.service
    patience = service.ready_timeout_s + 2 * service.stop_timeout_s
    patience += inventory.ssh.command_timeout_s

    def job(one: Signed) -> Callable[[], str]:
        latch = _held(seen, one)
        return lambda: _start(hosts[one.request.host], one, latch, patience, lease_s)

    jobs = {one.request.host: job(one) for one in signed}
    outcomes = fanout(jobs, deadline_s=2 * patience + lease_s)
    return {h: str(item) if isinstance(item, HostFault) else item for h, item in outcomes.items()}


def starts_anew(outcome: Evidence | HostFault) -> bool:
    """Whether starting a host starts a process there: it is fenced, or nothing runs."""
    if not isinstance(outcome, Evidence):
        return False
    return (outcome.halt is not None and outcome.halt.fenced) or down(outcome)


def _verify(inventory: Inventory, hosts: Mapping[str, Host], before: RoundAnswers, by: str) -> None:
    """Writes down on each host that runs what it held that this very process was verified.

    A host that doesn't, or that a rollout holds, is left as it is: it shows as restarted.
    """
    manifest = shown_manifest(before)
    for host, item in take_round(hosts, probe_request(), inventory.ssh.command_timeout_s).items():
        if not isinstance(item, Evidence) or _held_by_another(item):
            continue
        expected = expect(inventory, host, manifest, verified=False)
        verdict = judge_host(host, expected, item, ProofUse.START).verdict
        if verdict is not Verdict.MATCH or item.release is None:
            continue
        deadline_s = inventory.ssh.command_timeout_s
        with suppress(HostFault):
            # As a deployment does it, and under the lock: nobody changes it in between.
            lock = TakeLock(holder=by, purpose="start", plan=_PLAN, release=item.release)
            locked = hosts[host].call(lock, deadline_s=deadline_s)
            if not isinstance(locked, Locked):
                continue  # no lock was shown to be held: nothing is written there
            main = item.processes[item.main_pid]
            confirm = Confirm(
                token=locked.token,
                release=item.release,
                pid=main.pid,
                start=main.start,
                boot=item.boot,
            )
            unlock = Unlock(token=locked.token, keep=inventory.keep_releases)
            try:
                hosts[host].call(confirm, deadline_s=deadline_s)
            finally:
                hosts[host].call(unlock, deadline_s=deadline_s)


def _held_by_another(item: Evidence) -> bool:
    """Whether a rollout holds it; a start that was interrupted does not count."""
    if item.lock is not None:
        return item.lock.plan != _PLAN
    return item.rollout is not None


def _held(seen: RoundAnswers, one: Signed) -> str | None:
    """The latch of the stop that the host showed: another one since then is refused there."""
    evidence = seen[one.request.host]
    halt = evidence.halt if isinstance(evidence, Evidence) else None
    return halt.latch if halt is not None and halt.latch else None


def _start(host: Host, one: Signed, latch: str | None, patience: float, lease_s: float) -> str:
    sealed = one.content + one.signature.encode()
    payload = Payload(len(sealed), lambda: iter([sealed]))
    request = Resume(latch=latch, size=len(sealed))
    ends = time.monotonic() + lease_s
    while True:
        said = _said(host.call(request, deadline_s=patience, payload=payload))
        # A process that was started anew has no lease yet: the watch renews it within moments.
        if "(LEASE)" not in said or time.monotonic() >= ends:
            return said
        time.sleep(_POLL_S)


def _said(answer: Answer) -> str:
    if not isinstance(answer, Resumed):
        return "its answer can't be read"
    if answer.released:
        return ""
    plain = answer.said.answer or answer.said.errors if answer.said is not None else ""
    try:
        if json.loads(plain).get("trading_state") == "ACTIVE":
            return "it trades again, but its latch could not be removed"
    except (ValueError, AttributeError):
        pass
    return excerpt(plain) if plain.strip() else "the artifact did not answer"
