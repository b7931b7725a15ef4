"""What the artifact answers when it is asked by a command or on its socket (docs/contract.md)."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from deploytool.simulation.memory.programs import Program
from deploytool.simulation.memory.service import MemoryService, Quirk
from deploytool.simulation.memory.signing import signer

START = "start.deploytool"
"""The namespace of signatures under a request to start."""
LEASE_S = 10


@dataclass(frozen=True)
class ArtifactSaid:
    """How a command ended."""

    code: int
    output: str = ""
    errors: str = ""


def ask(service: MemoryService, argv: tuple[str, ...], given: bytes) -> ArtifactSaid:
    """Runs one of the artifact's commands."""
    for at, word in enumerate(argv):
        content = service.computer.read(word) if word.startswith("/") else None
        program = Program.load(content) if content is not None else None
        if program is not None:
            words = argv[at + 1 :]
            does = _COMMANDS.get(words[0] if words else "")
            if does is None:
                return ArtifactSaid(2, "", f"usage: {program.name} COMMAND\n")
            return does(service, program, words[1:], given)
    return ArtifactSaid(127, "", f"sh: {argv[0] if argv else ''}: not found\n")


def on_socket(service: MemoryService, line: str) -> str:
    """What the process behind the control socket answers to a line: the words of a command."""
    mind = service.speaker()
    verb, *words = line.split(" ")
    if mind is None:
        return ""
    does = _COMMANDS.get(verb)
    said = does(service, mind.program, tuple(words), b"") if does is not None else None
    return said.output if said is not None and said.code == 0 else '{"ok": false}\n'


def status(service: MemoryService) -> str:
    """What the process behind the control socket says of itself; empty where none answers."""
    mind, task = service.speaker(), service.answering
    if mind is None or task is None:
        return ""
    lies = Quirk.VERSION_LIES in service.quirks
    said = {
        "release": mind.release,
        "version": "0.0" if lies else mind.program.version,
        "pid": task.pid,
        "start_ticks": task.start,
        "boot_id": service.computer.boot_id,
        "flag_table": mind.program.flag_table,
        "wire": mind.program.wire,
        "armed": mind.flags.armed() if mind.flags else [],
        "epoch": mind.flags.epoch if mind.flags else 0,
        "trading_state": "HALTED" if mind.halted else "ACTIVE",
        "reason": "",
    }
    return json.dumps(said) + "\n"


def _nobody(program: Program) -> ArtifactSaid:
    return ArtifactSaid(1, "", f"{program.name}: nobody answers\n")


def _version(
    service: MemoryService, program: Program, _words: tuple[str, ...], _given: bytes
) -> ArtifactSaid:
    lies = Quirk.VERSION_LIES in service.quirks
    return ArtifactSaid(0, (f"{program.name} 0.0" if lies else program.version_line) + "\n")


def _status(
    service: MemoryService, program: Program, _words: tuple[str, ...], _given: bytes
) -> ArtifactSaid:
    said = status(service)
    return ArtifactSaid(0, said) if said else _nobody(program)


def _halt(
    service: MemoryService, _program: Program, _words: tuple[str, ...], _given: bytes
) -> ArtifactSaid:
    mind = service.speaker()
    on_disk = service.halt(mind)
    said: dict[str, object] = {"latch": service.own_latch() or None, "trading_state": "HALTED"}
    if not on_disk:
        said["on_disk"] = False
    if mind is None:
        said["running"] = False
    return ArtifactSaid(0, json.dumps(said) + "\n")


def _lease(
    service: MemoryService, program: Program, words: tuple[str, ...], _given: bytes
) -> ArtifactSaid:
    mind = service.speaker()
    if mind is None:
        return _nobody(program)
    renewed = bool(words) and words[0] == mind.nonce
    if words and words[0] != "none" and not renewed:
        return ArtifactSaid(
            1, "", "refused (LEASE_NONCE): this is not the nonce that was issued last\n"
        )
    mind.leases += 1
    pid = service.answering.pid if service.answering else 0
    mind.nonce = f"{pid}-{mind.leases}"
    said = {"nonce": mind.nonce, "left_s": LEASE_S if renewed else 0, "lease_s": LEASE_S}
    return ArtifactSaid(0, json.dumps(said) + "\n")


def _resume(
    service: MemoryService, program: Program, _words: tuple[str, ...], given: bytes
) -> ArtifactSaid:
    mind = service.speaker()
    if mind is None:
        return _nobody(program)
    line, _, signature = given.partition(b"\n")
    try:
        request = json.loads(line)
        by, latch = request["by"], request["latch"]
    except (ValueError, KeyError, TypeError):
        return ArtifactSaid(1, "", "refused (REQUEST_UNREADABLE): this is no request\n")
    who = signer(signature.decode("utf-8", "replace"), line + b"\n", START)
    if who is None or who == by:
        return ArtifactSaid(1, "", "refused (REQUEST_SIGNER): no second person has signed this\n")
    if latch != service.own_latch():
        return ArtifactSaid(1, "", "refused (OTHER_LATCH): it was halted again\n")
    service.computer.remove(service.latch_path)
    mind.halted = False
    return ArtifactSaid(0, json.dumps({"trading_state": "ACTIVE"}) + "\n")


def _flag(
    service: MemoryService, program: Program, words: tuple[str, ...], given: bytes
) -> ArtifactSaid:
    mind = service.speaker()
    if mind is None:
        return _nobody(program)
    if mind.flags is None:
        return ArtifactSaid(2, "", f"{program.name}: no flags\n")
    return ArtifactSaid(*mind.flags.answer(words, given))


_COMMANDS: Mapping[
    str, Callable[[MemoryService, Program, tuple[str, ...], bytes], ArtifactSaid]
] = {
    "--version": _version,
    "status": _status,
    "halt": _halt,
    "lease": _lease,
    "resume": _resume,
    "flag": _flag,
}
