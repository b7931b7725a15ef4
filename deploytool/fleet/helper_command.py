"""The one command line that deploytool runs on a host: the helper, which takes no argument. Pure.

It imports next to nothing: a stop, which may have to go without everything else, needs it too.
"""

from __future__ import annotations

from shlex import quote


def helper_path(supervisor: str, service: str, root: str) -> str:
    """Where the helper stands: outside the release root where root owns it."""
    if supervisor == "systemd":
        return f"/usr/local/libexec/deploytool/{service}/helper"
    return f"{root}/libexec/helper"


def invocation(supervisor: str, path: str) -> str:
    """What the login shell is given to run, whatever the request."""
    return f"exec sudo -n {quote(path)}" if supervisor == "systemd" else f"exec {quote(path)}"
