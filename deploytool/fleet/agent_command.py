"""The one command line that deploytool runs on a host: the agent, which takes no argument. Pure.

It imports next to nothing: a stop, which may have to go without everything else, needs it too.
"""

from __future__ import annotations

from shlex import quote


def agent_path(supervisor: str, service: str, root: str) -> str:
    """Where the agent stands: outside the release root where root owns it.

    The file has kept its name since deploytool 0.1.0: a stop of any release finds it on a host that
    was made ready by any other.
    """
    if supervisor == "systemd":
        return f"/usr/local/libexec/deploytool/{service}/helper"
    return f"{root}/libexec/helper"


def invocation(supervisor: str, path: str) -> str:
    """What the login shell is given to run, whatever the request."""
    return f"exec sudo -n {quote(path)}" if supervisor == "systemd" else f"exec {quote(path)}"
