"""Takes a host out of service for good, and lets its replacement in under the same name."""

from __future__ import annotations

import secrets
import subprocess
from pathlib import Path

from deploytool.errors import EnvironmentProblem
from deploytool.fleet.host import Host
from deploytool.fleet.model import Inventory
from deploytool.fleet.protocol import Call
from deploytool.fleet.sshconfig import route

_KEYGEN_S = 20


def stop_for_good(host: Host, holder: str, deadline_s: float) -> None:
    """Stops the service there and keeps it from coming back, also after a reboot.

    Raises:
        HostFault: it was not done, or that is not known.
    """
    plan = secrets.token_hex(8)
    reply = host.call(
        Call.of("lock", holder=holder, purpose="retire", plan=plan, release="none"),
        deadline_s=deadline_s,
    )
    token = reply.one("token") or "0"
    host.call(Call.of("retire", token=token), deadline_s=deadline_s)
    host.call(Call.of("unlock", token=token, keep=2), deadline_s=deadline_s)


def pin_replacement(inventory: Inventory, name: str, public_key: str) -> str:
    """Puts the replacement's host key in the place of the old one; gives the name it stands under.

    Raises:
        EnvironmentProblem: the file of pinned keys can't be changed.
    """
    known_hosts = Path(inventory.ssh.known_hosts)
    where = route(inventory, name).key_name
    command = ["ssh-keygen", "-q", "-R", where, "-f", str(known_hosts)]
    try:
        subprocess.run(command, check=True, capture_output=True, text=True, timeout=_KEYGEN_S)
        with known_hosts.open("a", encoding="utf-8") as file:
            file.write(f"{where} {' '.join(public_key.split()[:2])}\n")
    except (OSError, subprocess.SubprocessError) as error:
        raise EnvironmentProblem(
            f"{known_hosts} can't be changed: {error}",
            f"The old key of {name} may still be pinned there.",
            f"By hand: ssh-keygen -R {where} -f {known_hosts}, and add the new key's line",
        ) from error
    return where
