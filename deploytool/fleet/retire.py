"""Takes a host out of service for good, and lets its replacement in under the same name."""

from __future__ import annotations

import subprocess
from pathlib import Path

from deploytool.agent.requests import Locked, Retire, TakeLock, Unlock
from deploytool.errors import EnvironmentProblem, FaultKind, HostFault
from deploytool.fleet.host import Host
from deploytool.fleet.model import Inventory
from deploytool.fleet.sshconfig import route

_KEYGEN_S = 20
_KEEP = 2
"""So many releases stay on a host that is retired."""
_PLAN = "retire"
"""What its lock is for, in the words of locks; no rollout has a plan of this name."""


def stop_for_good(host: Host, holder: str, deadline_s: float) -> None:
    """Stops the service there and keeps it from coming back, also after a reboot.

    Its lock never stands in its own way: whoever asks again, from any machine, has the same one.

    Raises:
        HostFault: it was not done, or that is not known; the text says what became of the lock.
    """
    asked = TakeLock(holder=holder, purpose="retire", plan=_PLAN, release=None)
    locked = host.call(asked, deadline_s=deadline_s)
    if not isinstance(locked, Locked):
        raise HostFault(FaultKind.PROTOCOL, "no token with its lock", in_doubt=True)
    token = locked.token
    back = Unlock(token=token, keep=_KEEP)
    try:
        host.call(Retire(token=token), deadline_s=deadline_s)
    except HostFault as fault:
        try:
            host.call(back, deadline_s=deadline_s)
            lock = "its lock was released"
        except HostFault as later:
            lock = f"it may still be locked for it, with token {token} ({later})"
        text = f"{fault.text}; {lock}"
        raise HostFault(fault.kind, text, in_doubt=fault.in_doubt, code=fault.code) from fault
    try:
        host.call(back, deadline_s=deadline_s)
    except HostFault as fault:
        text = f"it was stopped, and its lock, token {token}, was not released: {fault.text}"
        raise HostFault(fault.kind, text, in_doubt=fault.in_doubt, code=fault.code) from fault


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
        begins = "" if known_hosts.read_bytes()[-1:] in {b"", b"\n"} else "\n"
        with known_hosts.open("a", encoding="utf-8") as file:
            file.write(f"{begins}{where} {' '.join(public_key.split()[:2])}\n")
    except (OSError, subprocess.SubprocessError) as error:
        raise EnvironmentProblem(
            f"{known_hosts} can't be changed: {error}",
            f"The old key of {name} may still be pinned there.",
            f"By hand: ssh-keygen -R {where} -f {known_hosts}, and add the new key's line",
        ) from error
    return where
