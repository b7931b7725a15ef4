"""The steps of arming and disarming a flag: each is one of the artifact's own commands."""

from __future__ import annotations

from deploytool.agent import marks
from deploytool.agent.host import Refusal
from deploytool.agent.requests import Told
from deploytool.agent.verbs import service
from deploytool.agent.verbs.receiving import pieces

TYPE_CHECKING = False
if TYPE_CHECKING:
    from deploytool.agent.host import AgentHost
    from deploytool.agent.port import Payload
    from deploytool.agent.requests import FlagStep
    from deploytool.agent.settings import Command

CERTIFICATE_AT_MOST = 49152
"""Bytes of a sealed certificate."""
CERTIFICATE_S = 5
CHANGES = ("lock", "rollout", "held")
"""Marks of a fleet that is being changed, whatever they say; they need not be readable."""
STEPS = ("observe", "prepare", "commit", "settle", "disarm")
ALWAYS = ("observe", "disarm")
"""Off is the safe state: these wait for nothing, and no mark stops them."""


def flag(host: AgentHost, request: FlagStep, payload: Payload) -> Told:
    """One step. What makes a flag last never meets a rollout: a fleet that is changed is mixed."""
    command = _command(host, request)
    until = host.system.machine.uptime() + CERTIFICATE_S
    sent = b"".join(pieces(host.system.machine, payload, request.size, until))
    if request.step in ALWAYS:
        return _tell(host, command, request, sent)
    with host.mutex():
        # The mutex is kept until the artifact has answered: no lock is taken in between.
        for name in CHANGES:
            if marks.is_there(host.state, name):
                text = f"this host is being changed: {host.state.path}/{name} is there"
                raise Refusal("changing", text)
        return _tell(host, command, request, sent)


def _command(host: AgentHost, request: FlagStep) -> Command:
    if request.step not in STEPS:
        raise Refusal("bad-request", f"there is no step {request.step}")
    if request.flag is None and request.step != "observe":
        raise Refusal("bad-request", f"{request.step} needs a flag")
    at_most = CERTIFICATE_AT_MOST if request.step == "prepare" else 0
    if request.size > at_most:
        raise Refusal("bad-request", f"{request.step} takes at most {at_most} bytes")
    command: Command | None = getattr(host.settings, f"flag_{request.step}")
    if command is None:
        raise Refusal("no-flags", "the inventory names no commands for flags of this host")
    return command


def _tell(host: AgentHost, command: Command, request: FlagStep, sent: bytes) -> Told:
    folder = service.client_folder(host)
    if folder is None:
        raise Refusal("nothing-active", "no release is active on this host")
    words = {"flag": request.flag} if request.flag is not None else {}
    return Told(said=service.run(host, command, words, folder=folder, sent=sent))
