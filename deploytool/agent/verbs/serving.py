"""What keeps the service trading: its lease."""

from __future__ import annotations

from deploytool.agent.host import Refusal
from deploytool.agent.requests import Told
from deploytool.agent.verbs import service

TYPE_CHECKING = False
if TYPE_CHECKING:
    from deploytool.agent.host import AgentHost
    from deploytool.agent.port import Payload
    from deploytool.agent.requests import RenewLease


def lease(host: AgentHost, request: RenewLease, _: Payload) -> Told:
    """Renews the artifact's lease by the nonce that it issued; ``none`` asks it for the first."""
    command = host.settings.lease
    if command is None:
        raise Refusal("no-lease", "the inventory names no lease command for this host")
    words = {"nonce": request.nonce or "none"}
    asked = service.by_socket(host, "lease", "nonce", words)
    if asked is None:
        asked = service.run(host, command, words)  # its exit code and its words say why not
    return Told(said=asked)
