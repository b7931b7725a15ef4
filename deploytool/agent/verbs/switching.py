"""What is active on this host, and whether it was verified: the steps that change what runs."""

from __future__ import annotations

from deploytool.agent import marks
from deploytool.agent.host import Refusal, attempt, writing
from deploytool.agent.model import Deadman, Expired, ReadBack, RolloutMark, Verified
from deploytool.agent.port import Interest
from deploytool.agent.record import Malformed
from deploytool.agent.requests import Activated, Answer
from deploytool.agent.verbs import evidence, latches, service

TYPE_CHECKING = False
if TYPE_CHECKING:
    from deploytool.agent.host import AgentHost
    from deploytool.agent.model import Asked
    from deploytool.agent.port import Payload, UnitState
    from deploytool.agent.requests import Activate, Confirm, Expire, Retire

EXPIRE_WAITS_S = 7200.0
"""The timer has one chance, so it waits for the change in progress; each has its deadline."""


def activate(host: AgentHost, request: Activate, _: Payload) -> Activated:
    """Switches to a release and restarts, or ends the service; shows what came of it."""
    with host.mutex():
        _begin(host, request)
        if request.release is None:
            _activate_none(host)
            complaint, seen, said = "", None, None
        else:
            complaint, seen, said = _switch(host, request, request.release)
    shown, why = None, ""
    try:
        read_back = _read_back(host)
        shown = evidence.look(host, request.show, seen=seen, said=said, read_back=read_back)
    except Refusal as refusal:
        # It was switched: that is an answer, and no refusal.
        why = f"the host could not be shown: {refusal}"
    return Activated(complaint="; ".join(filter(None, (complaint, why)))[:4096], evidence=shown)


def _begin(host: AgentHost, request: Activate) -> None:
    """What is written and undone before anything is switched."""
    host.check_token(request.token)
    latches.put_back(host)
    host.check_latch(request.latch)
    if request.release is not None and not _is_staged(host, request.release):
        raise Refusal("not-staged", f"{request.release} is not on this host")
    mark = host.mark("rollout", RolloutMark)
    if mark is not None:
        now = int(host.system.machine.now())
        host.put(rollout=mark.but(phase="activating", since=now))
    _keep_meaning(host, request.release)
    service.unfence(host)
    host.check_latch(request.latch)  # a stop may have come since: it takes no mutex


def _is_staged(host: AgentHost, release: str) -> bool:
    entry = host.releases.entry(release)
    if entry is None or entry.kind != "folder":
        return False
    folder = host.releases.folder(release)
    try:
        artifact = folder.entry(host.settings.name)
        return artifact is not None and artifact.kind == "file"
    finally:
        folder.close()


def _keep_meaning(host: AgentHost, release: str | None) -> None:
    """Notes what served here when it was stopped, until it is started again.

    What the senders use means what that build reads.
    """
    if not marks.is_there(host.state, "halted"):
        host.remove("meant")
        return
    linked = host.linked()
    if linked not in (None, release) and not marks.is_there(host.state, "meant"):
        host.put(meant=str(linked))


def _activate_none(host: AgentHost) -> None:
    host.remove("deadman", "verified")
    _end(host)


def _end(host: AgentHost) -> None:
    """Ends the service, and leaves nothing that could be started."""
    failed = service.stop(host)
    if failed:
        raise Refusal("service", f"the service can't be stopped: {failed}")
    with writing(f"{host.root.path}/current"):
        if host.root.entry("current") is not None:
            host.root.remove("current")
        host.root.sync()


def _switch(
    host: AgentHost, request: Activate, release: str
) -> tuple[str, UnitState | None, Asked | None]:
    draft = ".current.new"
    with writing(f"{host.root.path}/current"):
        if host.root.entry(draft) is not None:
            host.root.remove(draft)  # what a killed one left
        host.root.make_link(draft, f"releases/{release}")
    host.remove("verified")
    # Before the switch: however this ends, what is never confirmed does not go on serving.
    _arm_deadman(host, request)
    with writing(f"{host.root.path}/current"):
        host.root.rename(draft, "current")
        host.root.sync()
    return service.start_again(host)


def _arm_deadman(host: AgentHost, request: Activate) -> None:
    if not request.deadman:
        host.remove("expired", "deadman")
        return
    host.remove("expired")
    machine = host.system.machine
    mark = Deadman(
        boot=machine.boot_id(),
        token=request.token,
        seconds=request.deadman,
        armed=int(machine.uptime()),
    )
    host.put(deadman=mark)
    try:
        host.system.supervisor.set_timer(request.deadman, request.token)
    except OSError as error:
        # Nothing was switched: what serves was confirmed, and must come back after a reboot.
        host.remove("deadman")
        raise Refusal("deadman", f"the timer can't be set: {error}") from error


def _read_back(host: AgentHost) -> ReadBack | None:
    """What was read from the disk when it was staged; the proving round reads it again."""
    try:
        found = marks.read(host.state, "staged", ReadBack)
    except (OSError, Malformed):
        return None
    return found if found is not None and found.boot == host.system.machine.boot_id() else None


def confirm(host: AgentHost, request: Confirm, _: Payload) -> Answer:
    """Marks that the deployer has seen this very process run the release."""
    with host.mutex():
        host.check_token(request.token)
        process = host.system.processes.process(request.pid)
        # As long as the process that was the main one has not ended, no other can be.
        if not (
            process is not None
            and process.start == request.start
            and process.state not in service.ENDED
            and host.system.machine.boot_id() == request.boot
            and host.linked() == request.release
        ):
            raise Refusal("moved-on", "what was verified is not what runs now")
        if marks.is_there(host.state, "expired"):
            text = "no confirmation came in time, and this host stopped serving"
            raise Refusal("expired", text)
        mark = host.mark("rollout", RolloutMark)
        if marks.is_there(host.state, "deadman"):
            # It goes before "verified" comes: a host that was verified is never fenced.
            host.remove("deadman")
            with attempt():  # a timer that finds no mark does nothing
                host.system.supervisor.clear_timer()
        now = int(host.system.machine.now())
        verified = Verified(
            release=request.release,
            pid=request.pid,
            start=request.start,
            boot=request.boot,
            token=request.token,
            since=now,
        )
        if mark is None:
            host.put(verified=verified)
        else:
            host.put(rollout=mark.but(phase="confirmed", since=now), verified=verified)
    return Answer()


def _is_over(deadman: Deadman, request: Expire, uptime: float) -> bool:
    """Whether this is the timer of the activation that awaits its confirmation, and not an earlier.

    The same holder may have activated twice.
    """
    return deadman.token == request.token and uptime >= deadman.armed + deadman.seconds


def expire(host: AgentHost, request: Expire, _: Payload) -> Answer:
    """The host's own timer: without a confirmation this host stops serving.

    The mutex decides between it and a confirmation.
    """
    with host.mutex(EXPIRE_WAITS_S):
        try:
            deadman = marks.read(host.state, "deadman", Deadman)
            if deadman is None or not _is_over(deadman, request, host.system.machine.uptime()):
                return Answer()
        except (OSError, Malformed):
            # A confirmation is awaited here, and can't be told to be another's: it serves no more.
            pass
        with attempt():  # it ends also where the disk is full
            expired = Expired(token=request.token, since=int(host.system.machine.now()))
            marks.put(host.state, expired=marks.text_of(expired))
        failed = service.fence(host)
    if failed:
        raise Refusal("service", f"the service can't be stopped: {failed}")
    return Answer()


def retire(host: AgentHost, request: Retire, _: Payload) -> Answer:
    """This host serves no more, and a reboot does not change that; also where it was stopped."""
    with host.mutex():
        host.check_token(request.token)
        _keep_meaning(host, None)
        host.remove("verified", "deadman", "expired")
        try:
            masked = host.system.supervisor.mask()
        except OSError as error:
            raise Refusal("service", f"the unit can't be masked: {error}") from error
        if masked != "yes":
            raise Refusal("service", "the unit can't be masked for good: a reboot would start it")
        _end(host)
        root = f"{host.root.path}/releases/"
        views = host.system.processes.survey(Interest(root=host.root.path))
        if any(f.path.startswith(root) for v in views if not v.client for f in v.files):
            raise Refusal("service", "a process still runs a release here")
    return Answer()
