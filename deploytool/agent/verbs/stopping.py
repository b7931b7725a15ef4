"""Stops this host: halts the service, ends strays, and shows what is alive.

No mutex and no token: a change that hangs under the mutex must not keep a host from being stopped.
What keeps such a change from undoing a stop is its latch, which is written before anything else.
systemd is asked only where the service's usual control group is empty, because a host that is in
trouble may have a systemd that does not answer.
"""

from __future__ import annotations

from deploytool.agent import marks
from deploytool.agent.host import Refusal
from deploytool.agent.model import Latch, RolloutMark, Survey
from deploytool.agent.record import Malformed
from deploytool.agent.requests import Halted, Killed, LatchShown, Surveyed
from deploytool.agent.signals import signal
from deploytool.agent.verbs.latches import halt_artifact, says_halted, write_latch
from deploytool.agent.verbs.members import members_file
from deploytool.agent.verbs.service import unit
from deploytool.agent.verbs.sighting import sight

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from deploytool.agent.acting import FileKey
    from deploytool.agent.host import AgentHost
    from deploytool.agent.model import Other, Process
    from deploytool.agent.port import Payload
    from deploytool.agent.requests import Halt, HaltRelease, KillStrays, LookAfterStop, ShowLatch
    from deploytool.agent.verbs.sighting import Sighting

PASSING_S = 0.3
"""A client that someone runs ends within that time; what acts as the service does not."""
POLL_S = 0.1
LOOKS = 4
"""So many looks at most decide whether nothing that could send is left."""
_KILL = 9


def halt(host: AgentHost, request: Halt, _payload: Payload) -> Halted:
    """Latches the stop, then has the service stop sending; it goes on running, HALTED.

    What does not say that it halted is fenced next: then no time is spent on anything else here.
    """
    latch = Latch(
        latch=request.latch,
        by=request.by,
        reason=request.reason,
        since=request.since,
        hosts=request.hosts,
    )
    latched = write_latch(host, latch)
    if host.settings.halt_signal is not None:
        _signal_service(host, host.settings.halt_signal)
    said = halt_artifact(host, latch, float(request.seconds))
    if not says_halted(said):
        return Halted(latched=latched, said=said)
    synced = latched and _sync_latch(host)
    strays, members = _strays(host), members_file(host)
    return Halted(latched=latched, synced=synced, said=said, strays=strays, members=members)


def halt_release(host: AgentHost, request: HaltRelease, payload: Payload) -> Halted:
    """A halt where that release may run; elsewhere nothing."""
    return halt(host, request, payload) if _may_run(host, request.only) else Halted(skipped=True)


def kill_strays(host: AgentHost, request: KillStrays, _payload: Payload) -> Killed:
    """Kills what can act as the service and is not of it, and what would start more of that.

    It looks again until nothing is left or its time is up: what was born meanwhile is killed too.
    Where there was something, two looks have to find nothing: what starts strays again and again is
    without one for a moment.
    """
    machine, processes = host.system.machine, host.system.processes
    until = machine.uptime() + request.seconds
    killed: set[tuple[int, int]] = set()
    read: Mapping[FileKey, str] = {}
    quiet = 0
    while True:
        seen = _sight(host, read)
        read = _read(seen)
        targets = [seen.process(pid) for pid in seen.to_kill()]
        for process in targets:
            try:
                if processes.signal(process.pid, process.start, _KILL):
                    killed.add((process.pid, process.start))
            except OSError:
                continue  # the next look shows that it is alive
        quiet = 0 if targets else quiet + 1
        if quiet > bool(killed) or machine.uptime() >= until:
            return Killed(killed=len(killed))
        machine.sleep(POLL_S)


def survey(host: AgentHost, _request: LookAfterStop, _payload: Payload) -> Surveyed:
    """Shows what is alive of the service or acts as it, and which stop holds here."""
    seen, alive = _alive(host)
    processes = host.system.processes
    found = Survey(
        alive=alive,
        others=seen.others,
        owners=seen.owners(),
        open_ports=tuple(sorted(processes.listening(host.settings.ports))),
        latch=marks.read_latch(host.state),
        latched=marks.is_there(host.state, "halted"),
        fenced=marks.is_there(host.state, "fenced"),
    )
    return Surveyed(survey=found, members=members_file(host))


def _alive(host: AgentHost) -> tuple[Sighting, tuple[Process, ...]]:
    """What could send, by the last look: two looks in a row have to find nothing.

    What starts strays again and again is without one for a moment. Where they follow one another,
    the last one that was seen counts as alive.
    """
    seen, quiet = _sight(host), 0
    passed: tuple[Process, ...] = ()
    for look in range(LOOKS):
        if look:
            host.system.machine.sleep(POLL_S)
            seen = _sight(host, _read(seen))
        acting = [seen.process(pid) for pid in seen.can_send()]
        alive = tuple(p for p in acting if _is_there(host, p.pid, p.start))
        if alive:
            return seen, alive
        quiet = 0 if acting else quiet + 1
        if quiet == 2:
            return seen, ()
        passed = tuple(acting[-1:]) or passed
    return seen, passed


def latch(host: AgentHost, _request: ShowLatch, _payload: Payload) -> LatchShown:
    """Shows the stop that holds here, if any."""
    return LatchShown(
        latch=marks.read_latch(host.state),
        latched=marks.is_there(host.state, "halted"),
        fenced=marks.is_there(host.state, "fenced"),
    )


# --- what of it is the service -------------------------------------------------------------------


def _signal_service(host: AgentHost, name: str) -> None:
    """Sends the artifact's own signal to every process of the service."""
    processes = host.system.processes
    number = int(getattr(signal, f"SIG{name}"))
    state = unit(host)
    for pid in processes.group(state.group) if state.group else (state.main,):
        process = processes.process(pid) if pid > 1 else None
        if process is not None:
            try:
                processes.signal(pid, process.start, number)
            except OSError:
                continue  # it is asked by its own command next


def _sync_latch(host: AgentHost) -> bool:
    """Whether the latch is on the disk: one that a loss of power takes away is not a latch."""
    try:
        host.state.sync_file("halted")
        host.state.sync()
    except OSError:
        return False
    return True


# --- what else there is --------------------------------------------------------------------------


def _sight(host: AgentHost, read: Mapping[FileKey, str] | None = None) -> Sighting:
    try:
        return sight(host, unit(host), read=read)
    except OSError as error:
        raise Refusal("cannot-look", f"this host can't be inspected: {error}") from error


def _read(seen: Sighting) -> dict[FileKey, str]:
    """What need not be read again in this very request."""
    return {key: sha for key, sha in seen.digests.items() if sha is not None}


def _is_there(host: AgentHost, pid: int, start: int) -> bool:
    process = host.system.processes.process(pid)
    return process is not None and process.start == start and process.state not in ("Z", "X")


def _not_halted(seen: Sighting) -> list[Other]:
    """Who was not reached by the service's own halt, and may send."""
    sending = set(seen.can_send())
    return [o for o in seen.others if o.pid in sending or o.role == "unseen"]


def _strays(host: AgentHost) -> tuple[Other, ...]:
    """What acts as the service beside it; a passer-by is gone at the second look.

    One that is gone may have been followed by another: where three looks each find one, it is
    no passer-by, whatever the numbers.
    """
    before = _sight(host)
    if not _not_halted(before):
        return ()
    host.system.machine.sleep(PASSING_S)
    after = _sight(host, _read(before))
    stayed = tuple(other for other in _not_halted(after) if _is_same(other.pid, before, after))
    if stayed or not _not_halted(after):
        return stayed
    host.system.machine.sleep(PASSING_S)
    return tuple(_not_halted(_sight(host, _read(after))))


def _is_same(pid: int, before: Sighting, after: Sighting) -> bool:
    """Whether it is one process in both looks."""
    return pid in before.views and before.process(pid).start == after.process(pid).start


def _may_run(host: AgentHost, only: str) -> bool:
    """Whether a release that begins so runs here or would be started, or may for all one can tell.

    What can be told without reading a file is asked first: a stop is in a hurry.
    """
    linked = host.linked()
    if linked is None and host.current() != "none":
        return True  # it leads to something else
    if (linked or "").startswith(only) or _is_changing(host, only):
        return True
    seen = _sight(host)
    if not _shows(seen, only, also_unclear=True):
        return False
    if _shows(seen, only, also_unclear=False):
        return True
    host.system.machine.sleep(PASSING_S)
    return _shows(_sight(host, _read(seen)), only, also_unclear=True)


def _is_changing(host: AgentHost, only: str) -> bool:
    """Whether a rollout may switch to it at this moment, or back to it."""
    try:
        mark = marks.read(host.state, "rollout", RolloutMark)
    except (OSError, Malformed):
        return True
    releases = () if mark is None else (mark.target, mark.before)
    return any(release is not None and release.startswith(only) for release in releases)


def _shows(seen: Sighting, only: str, *, also_unclear: bool) -> bool:
    """Whether a process runs a release that begins so; or one that is not known, if asked for."""
    runs = seen.runs()
    releases = [run.sha for run in runs]
    releases += [other.release for other in seen.others if other.role == "acts"]
    if any(sha is not None and sha.startswith(only) for sha in releases):
        return True
    inside = f"/releases/{only}"
    if any(run.sha is None and inside in run.path for run in runs):
        return True
    unclear = (
        None in releases
        or any(other.role == "unseen" for other in seen.others)
        or (bool(seen.service) and not runs)
    )
    return also_unclear and unclear
