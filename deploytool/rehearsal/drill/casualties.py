"""What befalls hosts in a drill: one hangs, one hears nobody, one is started again and again."""

from __future__ import annotations

import base64
import shlex
import time
from pathlib import Path

from deploytool.errors import EnvironmentProblem
from deploytool.rehearsal.faults.ground import Ground
from deploytool.rehearsal.fleets.model import Machines
from deploytool.rehearsal.fleets.run import find
from deploytool.release.model import Release

_REVIVAL_S = 10.0
_LISTEN_S = 15.0
_PUT_S = 60.0
_POLL_S = 0.1


def hang(ground: Ground) -> None:
    """The process stops where it is: it holds its sockets and answers nothing."""
    ground.shell('kill -s STOP "$(main_pid)"')


def revived(ground: Ground) -> bool:
    """Kills the process as the kernel would; whether its supervisor starts another one."""
    before = ground.shell("main_pid").strip()
    ground.shell('kill -s KILL "$(main_pid)"')
    ends = time.monotonic() + _REVIVAL_S * ground.slow
    while time.monotonic() < ends:
        now = ground.shell("main_pid || :").strip()
        if now not in {"", "0", before}:
            return True
        time.sleep(_POLL_S)
    return False


def start_deaf(ground: Ground, deaf: Release) -> None:
    """Somebody starts a router by hand that hears nobody, in place of the service.

    It trades under the host's name, with the host's state, from a folder in the release root; it
    has no lease, since whoever started it gave it none.

    Raises:
        EnvironmentProblem: it did not come up.
    """
    folder = f"{ground.root}/releases/{deaf.digest}"
    if ground.supervisor == "systemd":
        ground.shell('systemctl stop "$NAME"')
    else:
        ground.shell(
            'pid=$(main_pid); kill -s TERM "$pid"; tries=0\n'
            'while [ -d "/proc/$pid" ] && [ $tries -lt 100 ]; do\n'
            "sleep 0.1; tries=$((tries + 1)); done"
        )
    _put(ground, Path(deaf.artifact), folder)
    words = [word.replace("{current}", folder) for word in ground.inventory.service.start]
    argv = [ground.inventory.expand(word, ground.host) for word in _without_lease(words)]
    account = ground.inventory.service.user
    become = f"setpriv --reuid={account} --regid={account} --init-groups --no-new-privs"
    as_whom = "" if ground.supervisor == "process" else become
    command = f'env -i PATH="$PATH" {shlex.join([*argv, "--rehearsal"])}'
    ground.shell(
        f"umask 027; cd /; setsid {as_whom} {command} </dev/null >/dev/null 2>&1 &\n"
        f"tries=0; until ss -Hltn 'sport = :{ground.port}' | grep -q .; do\n"
        f"sleep {_POLL_S}; tries=$((tries + 1)); "
        f"[ $tries -lt {round(_LISTEN_S * ground.slow / _POLL_S)} ] || exit 1\n"
        "done"
    )


def _without_lease(words: list[str]) -> list[str]:
    if "--lease" not in words:
        return words
    at = words.index("--lease")
    return words[:at] + words[at + 2 :]


def _put(ground: Ground, artifact: Path, folder: str) -> None:
    """Copies a file to a host past SSH, as somebody with a key to the machine room would."""
    if not isinstance(ground.fleet, Machines):
        target = Path(folder)
        target.mkdir(parents=True, exist_ok=True)
        (target / artifact.name).write_bytes(artifact.read_bytes())
        (target / artifact.name).chmod(0o555)
        return
    script = 'set -eu; mkdir -p "$1"; base64 -d > "$1/$2"; chmod 0555 "$1/$2"'
    text = base64.b64encode(artifact.read_bytes()).decode()
    told = ground.fleet.inside(
        ground.host, ("sh", "-c", script, "sh", folder, artifact.name), text, _PUT_S
    )
    if told.code != 0:
        raise EnvironmentProblem(
            f"{ground.host}: the deaf router can't be put there: {told.err.strip()}",
            "The drill is not over; the throwaway fleet is as it is.",
            "deploytool rehearse --scenario stop-drill",
        )


def power_cut(ground: Ground) -> bool:
    """Takes a host's power away and gives it back; False where its kind of fleet can't boot."""
    if not isinstance(ground.fleet, Machines):
        return False
    ground.fleet.reset(ground.host)
    ground.fleet.await_boot(ground.host)
    return True


def needs() -> None:
    """What this machine must have for them. Raises EnvironmentProblem: it hasn't."""
    find("setsid", "util-linux")
    find("ss", "iproute2")
