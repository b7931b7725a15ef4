"""The last rungs of a stop on a simulated host: what ``agent/last_rungs.sh`` does, step by step."""

from __future__ import annotations

from deploytool.agent import marks
from deploytool.agent.model import Latch
from deploytool.agent.requests import Halt
from deploytool.fleet.protocol import Call, Reply
from deploytool.simulation.machine import SimulatedMachine
from deploytool.simulation.memory.computer import Task
from deploytool.simulation.memory.service import MemorySystemd

_KILL = 9


def rung(host: SimulatedMachine, call: Call) -> Reply:
    """What the host does and prints."""
    if call.verb == "look":
        return Reply(tuple(_look(host)))
    words = dict(call.arguments)
    latch = Latch(
        latch=words["latch"], by=words["by"], reason=words["reason"], since=int(words["since"])
    )
    return Reply(tuple(_fence(host, latch) if call.verb == "fence" else _kill(host, latch)))


def _ours(host: SimulatedMachine) -> list[Task]:
    service = host.service
    members = host.computer.members(service.group) if service.group else []
    return list({task.pid: task for task in (*members, *service.of_this_root())}.values())


def _fence(host: SimulatedMachine, latch: Latch) -> list[tuple[str, str]]:
    said = []
    fenced = "yes"
    same = f"latch {latch.latch}\n" in (host.mark("halted") or "")
    for name, text in (("halted", marks.text_of(latch)), ("fenced", "")):
        if name == "halted" and same:
            continue  # what the artifact calls its own latch is kept there
        try:
            host.put_mark(name, text)
        except OSError:
            fenced = "no" if name == "fenced" else fenced
    if isinstance(host.service, MemorySystemd):
        said.append(("masked", host.service.mask()))
    return [*said, ("fenced", fenced)]


def _kill(host: SimulatedMachine, latch: Latch) -> list[tuple[str, str]]:
    ours = _ours(host)
    for task in ours:
        host.computer.signal(task, _KILL)
    if isinstance(host.service, MemorySystemd):
        host.service.stop()  # systemd sees that nothing of the unit is left
    # An artifact that can latch without running comes up halted when it is let in again.
    words = {"latch": latch.latch, "by": latch.by, "reason": latch.reason, "since": latch.since}
    host.ask(Halt.from_json({**words, "seconds": 1}))
    return [("killed", str(len(ours)))]


def _look(host: SimulatedMachine) -> list[tuple[str, str]]:
    said = [("alive", str(task.pid)) for task in _ours(host)]
    ports = host.service.settings.ports
    said += [("open", str(port)) for port in ports if host.computer.listener(port) is not None]
    halted = host.mark("halted")
    if halted is not None:
        said.append(("halted", halted.replace("\n", " ")))
    if host.mark("fenced") is not None:
        said.append(("fenced", ""))
    return said
