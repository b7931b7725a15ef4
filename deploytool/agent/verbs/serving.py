"""What keeps the service serving, and what it printed: its lease and its log."""

from __future__ import annotations

from deploytool.agent.host import Refusal
from deploytool.agent.requests import LogShown, Told
from deploytool.agent.verbs import service

TYPE_CHECKING = False
if TYPE_CHECKING:
    from deploytool.agent.host import AgentHost
    from deploytool.agent.port import Payload
    from deploytool.agent.requests import RenewLease, ShowLog

LINES_AT_MOST = 1000
LINE_AT_MOST = 1000
"""So many lines are shown, and so many characters of each."""


def log(host: AgentHost, request: ShowLog, _: Payload) -> LogShown:
    """Shows the last lines that the service printed, as its supervisor kept them.

    Raises:
        Refusal: they can't be read.
    """
    try:
        lines = host.system.supervisor.log(min(request.lines, LINES_AT_MOST), own=False)
    except OSError as error:
        raise Refusal("cannot-look", f"the service's log can't be read: {error}") from error
    return LogShown(lines=tuple(line[:LINE_AT_MOST] for line in lines))


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
