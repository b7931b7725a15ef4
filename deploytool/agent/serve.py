"""Answers one request: finds its verb, hands it the host, and turns a refusal into an answer."""

from __future__ import annotations

from deploytool.agent.host import AgentHost, Refusal
from deploytool.agent.protocol import parse_request
from deploytool.agent.record import Malformed
from deploytool.agent.requests import RefusedAnswer
from deploytool.agent.verbs import find

TYPE_CHECKING = False
if TYPE_CHECKING:
    from deploytool.agent.port import Payload, System
    from deploytool.agent.requests import Answer, Request


def serve(system: System, agent: str, kind: type[Request], line: bytes, payload: Payload) -> Answer:
    """What the verb answers to the request in ``line``, or why it did nothing.

    ``agent`` is the SHA-256 of the agent's own file. After a ``RefusedAnswer`` no further request
    may be read: how much of a payload was taken is not known. The code ``failed`` is of no rule:
    the operating system failed in the middle of the verb, and what it did before that is in doubt.
    """
    try:
        request = parse_request(kind, line)
    except Malformed as error:
        return RefusedAnswer(code="bad-request", text=str(error)[:4096])
    try:
        with AgentHost.open(system, agent) as host:
            return find(kind.verb)(host, request, payload)
    except Refusal as refusal:
        return RefusedAnswer(code=refusal.code, text=str(refusal)[:4096])
    except OSError as error:
        text = f"{kind.verb} failed on this host, perhaps half way: {error}"
        return RefusedAnswer(code="failed", text=text[:4096])
