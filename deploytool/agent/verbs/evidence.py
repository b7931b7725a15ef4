"""Shows the host: one look, from which the operator's side proves what runs."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from deploytool.agent.host import Host
    from deploytool.agent.model import Asked, Evidence, ReadBack
    from deploytool.agent.port import UnitState
    from deploytool.agent.requests import Probe


def look(
    host: Host,
    probe: Probe,
    *,
    seen: UnitState | None = None,
    said: Asked | None = None,
    read_back: ReadBack | None = None,
) -> Evidence:
    """One look at the host; it takes ``host.look_alone`` itself.

    ``seen`` and ``said``: what the supervisor and the main process said just now, so that neither
    is asked again. ``read_back``: an artifact whose inode is still that is not read again.

    Raises:
        Refusal: another look does not end.
    """
    raise NotImplementedError(host, probe, seen, said, read_back)
