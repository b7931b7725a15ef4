"""What befalls hosts in a drill: one hangs, one hears nobody, one is started again and again."""

from __future__ import annotations

import base64
import shlex
import time
from pathlib import Path

from deploytool.errors import EnvironmentProblem
from deploytool.rehearsal.faults.host_shell import HostShell
from deploytool.rehearsal.fleets.run import find
from deploytool.rehearsal.fleets.throwaway import Machines
from deploytool.release.model import Release

_REVIVAL_S = 10.0
_LISTEN_S = 15.0
_PUT_S = 60.0
_POLL_S = 0.1


def hang(host_shell: HostShell) -> None:
    """The process stops where it is: it holds its sockets and answers nothing."""
    host_shell.shell('kill -s STOP "$(main_pid)"')


def revived(host_shell: HostShell) -> bool:
    """Kills the process as the kernel would; whether its supervisor starts another one."""
    before = host_shell.shell("main_pid").strip()
    host_shell.shell('kill -s KILL "$(main_pid)"')
    ends = time.monotonic() + _REVIVAL_S * host_shell.slow
    while time.monotonic() < ends:
        now = host_shell.shell("main_pid || :").strip()
        if now not in {"", "0", before}:
            return True
        time.sleep(_POLL_S)
    return False


def start_deaf(host_shell: HostShell, deaf: Release) -> None:
    """Somebody starts a router by hand that hears nobody, in place of the service.

    It trades under the host's name, with the host's state, from a folder in the release root; it
    has no lease, since whoever started it gave it none.

    Raises:
        EnvironmentProblem: it did not come up.
    """
    folder = f"{host_shell.root}/releases/{deaf.digest}"
    if host_shell.supervisor == "systemd":
        host_shell.shell('systemctl stop "$NAME"')
    else:
        host_shell.shell(
            'pid=$(main_pid); kill -s TERM "$pid"; tries=0\n'
            'while [ -d "/proc/$pid" ] && [ $tries -lt 100 ]; do\n'
            "sleep 0.1; tries=$((tries + 1)); done"
        )
    _put(host_shell, Path(deaf.artifact), folder)
    words = [word.replace("{current}", folder) for word in host_shell.inventory.service.start]
    argv = [host_shell.inventory.expand(word, host_shell.host) for word in _without_lease(words)]
    account = host_shell.inventory.service.user
    become = f"setpriv --reuid={account} --regid={account} --init-groups --no-new-privs"
    as_whom = "" if host_shell.supervisor == "process" else become
    command = f'env -i PATH="$PATH" {shlex.join([*argv, "--rehearsal"])}'
    host_shell.shell(
        f"umask 027; cd /; setsid {as_whom} {command} </dev/null >/dev/null 2>&1 &\n"
        f"tries=0; until ss -Hltn 'sport = :{host_shell.port}' | grep -q .; do\n"
        f"sleep {_POLL_S}; tries=$((tries + 1)); "
        f"[ $tries -lt {round(_LISTEN_S * host_shell.slow / _POLL_S)} ] || exit 1\n"
        "done"
    )


def _without_lease(words: list[str]) -> list[str]:
    if "--lease" not in words:
        return words
    at = words.index("--lease")
    return words[:at] + words[at + 2 :]


def _put(host_shell: HostShell, artifact: Path, folder: str) -> None:
    """Copies a file to a host past SSH, as somebody with a key to the machine room would."""
    if not isinstance(host_shell.fleet, Machines):
        target = Path(folder)
        target.mkdir(parents=True, exist_ok=True)
        (target / artifact.name).write_bytes(artifact.read_bytes())
        (target / artifact.name).chmod(0o555)
        return
    script = 'set -eu; mkdir -p "$1"; base64 -d > "$1/$2"; chmod 0555 "$1/$2"'
    text = base64.b64encode(artifact.read_bytes()).decode()
    told = host_shell.fleet.inside(
        host_shell.host, ("sh", "-c", script, "sh", folder, artifact.name), text, _PUT_S
    )
    if told.code != 0:
        raise EnvironmentProblem(
            f"{host_shell.host}: the deaf router can't be put there: {told.err.strip()}",
            "The drill is not over; the throwaway fleet is as it is.",
            "deploytool rehearse --scenario stop-drill",
        )


def power_cut(host_shell: HostShell) -> bool:
    """Takes a host's power away and gives it back; False where its kind of fleet can't boot."""
    if not isinstance(host_shell.fleet, Machines):
        return False
    host_shell.fleet.reset(host_shell.host)
    host_shell.fleet.await_boot(host_shell.host)
    return True


def needs() -> None:
    """What this machine must have for them. Raises EnvironmentProblem: it hasn't."""
    find("setsid", "util-linux")
    find("ss", "iproute2")
