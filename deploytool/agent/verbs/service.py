"""The service: its commands, its restart, the wait until it answers, and its end."""

from __future__ import annotations

from deploytool.agent import marks
from deploytool.agent.host import Refusal, attempt
from deploytool.agent.model import Asked
from deploytool.agent.port import Interest, UnitState
from deploytool.agent.protocol import parse_json
from deploytool.agent.record import Malformed
from deploytool.agent.verbs import configs
from deploytool.agent.words import DOCUMENT_AT_MOST

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from deploytool.agent.host import AgentHost
    from deploytool.agent.settings import Command

SYSTEMD_S = 15
"""What systemd itself may take beyond the service's own time, in seconds."""
POLL_S = 0.05
ENDED = frozenset({"Z", "X"})
"""States of a process that runs no more, and was not waited for yet (proc_pid_stat(5))."""
ASK_EVERY = 8
"""A process that computes is asked in one of so many polls: each question takes its time away."""


# --- its commands -------------------------------------------------------------------------------


def current(host: AgentHost) -> str:
    """The folder of the active release, by way of the link."""
    return f"{host.root.path}/current"


def run(
    host: AgentHost,
    command: Command,
    given: Mapping[str, str] | None = None,
    *,
    folder: str | None = None,
    sent: bytes = b"",
    deadline_s: float | None = None,
) -> Asked:
    """Runs one of the service's commands as its account.

    ``folder``: of the release that it belongs to, the active one where none is named. ``sent`` is
    its standard input. A command that can't be started has no exit code, as one that was killed.
    """
    argv = command.filled(current=folder or current(host), **(given or {}))
    limit = host.settings.ask_s if deadline_s is None else deadline_s
    try:
        return host.system.commands.run(argv, given=sent, deadline_s=limit)
    except OSError as error:
        return Asked(way="command", code=None, answer="", errors=str(error)[:4096])


def try_out(host: AgentHost, folder: str) -> Asked:
    """What the artifact of a folder, which nothing has proven yet, prints of its version."""
    argv = host.settings.version.filled(current=folder)
    try:
        return host.system.commands.try_out(argv, deadline_s=host.settings.ask_s)
    except OSError as error:
        return Asked(way="command", code=None, answer="", errors=str(error)[:4096])


def spoken(asked: Asked | None) -> dict[str, object] | None:
    """The JSON object that a command printed; None where it failed or printed something else."""
    if asked is None or asked.code != 0:
        return None
    try:
        found = parse_json(asked.answer.encode("utf-8", "replace"), 4 * DOCUMENT_AT_MOST)
    except Malformed:
        return None
    return found if isinstance(found, dict) else None


def ask_status(host: AgentHost, state: UnitState, folder: str | None = None) -> Asked:
    """What the running process says of itself: by its socket if it has one, else by a command."""
    asked = by_socket(host, "status", "trading_state", state=state)
    return run(host, host.settings.status, folder=folder) if asked is None else asked


def by_socket(
    host: AgentHost,
    verb: str,
    shows: str,
    given: Mapping[str, str] | None = None,
    *,
    state: UnitState | None = None,
    deadline_s: float | None = None,
) -> Asked | None:
    """What a process of the unit answers to a verb's line on its socket; no interpreter is started.

    None: the verb's command has to ask, for the inventory has no such line, nothing answers there,
    or another process than one of the unit (told by its start time), or no JSON object with the
    member ``shows``. A process that only lets the time pass has not answered: its command would ask
    the very same. ``state``: where the unit's processes are, where that is known already.
    """
    socket = host.settings.socket
    line = None if socket is None else socket.line(verb, **(given or {}))
    if socket is None or line is None:
        return None
    peers = unit_processes(host, unit(host) if state is None else state)
    if not peers:
        return None
    limit = host.settings.ask_s if deadline_s is None else deadline_s
    try:
        asked = host.system.commands.ask_socket(socket.path, line, peers, limit)
    except TimeoutError:
        said = f"no answer on {socket.path} within {limit:g} s"
        return Asked(way="socket", code=None, answer="", errors=said)
    except OSError:
        return None
    return asked if shows in (spoken(asked) or {}) else None


def unit(host: AgentHost) -> UnitState:
    """Where the service's processes are; nothing where that can't be told.

    systemd is asked only where the usual control group is empty: it may not answer.
    """
    usual = usual_group(host)
    if usual is not None:
        return usual
    try:
        return host.system.supervisor.state()
    except OSError:
        return UnitState()


def unit_processes(host: AgentHost, state: UnitState) -> frozenset[tuple[int, int]]:
    """PID and start time of the main process and of all of the unit's control group."""
    processes = host.system.processes
    pids = set(processes.group(state.group)) if state.group else set()
    if state.main:
        pids.add(state.main)
    found = (processes.process(pid) for pid in sorted(pids))
    return frozenset((process.pid, process.start) for process in found if process is not None)


def client_folder(host: AgentHost) -> str | None:
    """The folder of a release whose commands reach what runs; None where nothing is active.

    The link may lead nowhere while a process serves all the same: then it is that process's own.
    """
    name = host.settings.name
    if _can_run(host, f"{current(host)}/{name}"):
        return current(host)
    main = host.system.supervisor.state().main
    releases = f"{host.root.path}/releases/"
    if not main:
        return None
    for view in host.system.processes.survey(Interest(root=host.root.path)):
        for file in view.files if view.process.pid == main else ():
            folder, _, last = file.path.rpartition("/")
            if last == name and folder.startswith(releases) and _can_run(host, file.path):
                return folder
    return None


def _can_run(host: AgentHost, path: str) -> bool:
    try:
        inode = host.system.files.inode(path)
    except OSError:
        return False
    return inode is not None and bool(inode.rights.mode & 0o111)


def serves(host: AgentHost) -> bool:
    """Whether it has a main process, as far as its supervisor says."""
    try:
        main = host.system.supervisor.state().main
    except OSError:
        return False
    process = host.system.processes.process(main) if main > 1 else None
    return process is not None and process.state not in ("Z", "X")


# --- its start ----------------------------------------------------------------------------------


def restart(host: AgentHost) -> str:
    """Restarts it; gives the supervisor's complaint. What came of it is seen, not believed here."""
    settings = host.settings
    limit = settings.stop_s + settings.ready_s + SYSTEMD_S
    try:
        return host.system.supervisor.restart(limit)
    except OSError as error:
        return f"the service can't be restarted: {error}"


def start_again(host: AgentHost) -> tuple[str, UnitState | None, Asked | None]:
    """Restarts it, waits until it is ready, and notes which configuration it was started with.

    Gives the supervisor's complaint, and what ``wait_ready`` gives.
    """
    before = configs.digests(host)
    complaint = restart(host)
    seen, said = wait_ready(host)
    if said is not None:
        with attempt():
            configs.note_start(host, seen or host.system.supervisor.state(), before)
    return complaint, seen, said


def wait_ready(host: AgentHost) -> tuple[UnitState | None, Asked | None]:
    """Waits until the service owns its ports and its main process answers, or its time is up.

    Gives what the supervisor said of that very process before it answered, where it ran by then,
    and the answer; None where there is none.
    """
    machine, settings = host.system.machine, host.settings
    until = machine.uptime() + settings.ready_s
    state: UnitState | None = None
    polls = 0
    while machine.uptime() < until:
        process = host.system.processes.process(state.main) if state and state.main else None
        if state is None or process is None or process.state in ENDED:
            state = _state(host)
            process = host.system.processes.process(state.main) if state.main else None
        if state.active in {"failed", "inactive"}:
            break  # it ended, and is not started again
        if process is not None:
            polls += 1
            # One that computes is still on its way.
            worth = process.state == "S" or polls % ASK_EVERY == 0
            asked = _ready(host, state) if worth else None
            if asked is not None:
                runs = state.active == "active" and state.sub == "running"
                return (state if runs else None), asked
        machine.sleep(POLL_S)
    return None, None


def _state(host: AgentHost) -> UnitState:
    """What the supervisor says; nothing where it does not answer: it is asked again."""
    try:
        return host.system.supervisor.state()
    except OSError:
        return UnitState()


def _ready(host: AgentHost, state: UnitState) -> Asked | None:
    """The main process's answer, where it owns its ports and speaks for itself."""
    ports = host.settings.ports
    if len(host.system.processes.listening(ports)) < len(set(ports)):
        return None
    asked = ask_status(host, state)
    status = spoken(asked)
    return asked if status is not None and status.get("pid") == state.main else None


# --- its end ------------------------------------------------------------------------------------


def stop(host: AgentHost) -> str:
    """Ends it; gives why it could not be ended, empty where it could."""
    try:
        return host.system.supervisor.stop(host.settings.stop_s + SYSTEMD_S)
    except OSError as error:
        return str(error) or "it could not be asked to stop"


def fence(host: AgentHost) -> str:
    """Keeps it from being started, and then ends every process of it.

    Gives why something of it may still run, empty where it was ended. No step waits for the success
    of the one before.
    """
    supervisor = host.system.supervisor
    with attempt():
        supervisor.mask()
    with attempt():
        unit = usual_group(host) or supervisor.state()
        if unit.group:
            host.system.processes.kill_group(unit.group)
    return stop(host)


def usual_group(host: AgentHost) -> UnitState | None:
    """Where systemd has the service's processes unless it was told otherwise; None: none is there.

    It is known without asking systemd, which may not answer.
    """
    if host.settings.supervisor != "systemd":
        return None
    group = f"{host.system.processes.system_slice()}/{host.settings.unit}"
    return UnitState(group=group) if host.system.processes.group(group) else None


def unfence(host: AgentHost) -> None:
    """Lets it be started again, unless a stop fenced it: that lasts until ``resume``.

    A stop takes no mutex. It writes ``fenced`` before it masks the unit, so where that mark came
    meanwhile, the mask that was just taken away may have been its: it is put back.

    Raises:
        Refusal: it can't be.
    """
    if marks.is_there(host.state, "fenced"):
        return
    supervisor = host.system.supervisor
    try:
        if supervisor.masked():
            supervisor.unmask()
        if marks.is_there(host.state, "fenced"):
            supervisor.mask()
    except OSError as error:
        raise Refusal("service", f"the unit can't be unmasked: {error}") from error
