"""The latch of a stop on this host, and the artifact's own.

A stop takes no mutex: a change that hangs must not keep a host from being stopped. What keeps such
a change from undoing it is its latch, which is written before anything else is tried.
"""

from __future__ import annotations

from deploytool.agent import marks
from deploytool.agent.host import writing
from deploytool.agent.verbs import service
from deploytool.agent.words import is_word

TYPE_CHECKING = False
if TYPE_CHECKING:
    from deploytool.agent.host import AgentHost
    from deploytool.agent.model import Asked, Latch

AT_LEAST_S = 0.5
"""So long a command has where its process has used up the time on its socket."""
LIFTED = ".lifted."
"""How the name of a latch begins while ``resume`` looks at whose it is."""


def write_latch(host: AgentHost, latch: Latch) -> bool:
    """Latches the stop, in place of an earlier one; False where it can't be written.

    It is not yet on the disk: a stop does not wait for that before it acts.
    """
    # Each stop has a draft of its own: two may be at it at once.
    draft = f".halted.{latch.latch}.{host.system.machine.draft()}"
    try:
        sink = host.state.create(draft, 0o644)
        try:
            sink.write(marks.text_of(latch).encode("utf-8", "replace"))
        finally:
            sink.close()
        host.state.rename(draft, "halted")
    except OSError:
        return False
    return True


def halt_artifact(host: AgentHost, latch: Latch, deadline_s: float) -> Asked | None:
    """Has the artifact halt itself; None where it has no such command.

    A request to start this host must name the artifact's own latch. Only this answer shows it, so
    it is written beside ours.
    """
    command = host.settings.halt
    if command is None:
        return None
    words = {"reason": latch.reason, "by": latch.by}
    machine = host.system.machine
    until = machine.uptime() + deadline_s
    asked = service.by_socket(host, "halt", "trading_state", words, deadline_s=deadline_s)
    if asked is None or (asked.code == 0 and not says_halted(asked)):
        left_s = max(AT_LEAST_S, until - machine.uptime())
        asked = service.run(host, command, words, deadline_s=left_s)
    own = (service.spoken(asked) or {}).get("latch")
    if isinstance(own, str) and is_word(own):
        held = marks.read_latch(host.state)
        if held is None or held.latch == latch.latch:  # a later stop's stays
            write_latch(host, latch.but(artifact=own))
    return asked


def put_back(host: AgentHost) -> None:
    """Puts back a latch that a killed ``resume`` had taken away to see whose it is.

    It may be that of a later stop, and is not lost. Called under the mutex.
    """
    for name in host.state.names():
        if name.startswith(LIFTED):
            with writing(f"{host.state.path}/halted"):
                put_back_one(host, name)
                host.state.sync()


def put_back_one(host: AgentHost, name: str) -> None:
    """Puts a latch back, unless a newer one is there.

    Raises:
        OSError: it can't be.
    """
    try:
        host.state.rename_new(name, "halted")
    except FileExistsError:
        host.state.remove(name)


def says_halted(asked: Asked | None) -> bool:
    """Whether the artifact says that it halted."""
    return (service.spoken(asked) or {}).get("trading_state") == "HALTED"
