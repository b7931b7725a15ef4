"""Faults that are there before a deployment: found by name, in time, and nothing is touched."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from .workstation import HELPER, NAMES, NEW, OLD, ROOT, Look, Workstation

pytestmark = pytest.mark.containers

HUNG_SSHD = (
    "import socket; s=socket.socket(); s.setsockopt(socket.SOL_SOCKET,socket.SO_REUSEADDR,1);"
    "s.bind(('0.0.0.0',22)); s.listen(); open('/tmp/hangs','w'); kept=[]\\n"
    "while True: kept.append(s.accept())"
)
SUDOERS = "/etc/sudoers.d/deploytool-router"
SMALL_DISK = f"mount -t tmpfs -o size=6m,mode=755 tmpfs {ROOT}/releases"


@dataclass(frozen=True)
class Fault:
    """What is done to a host and how it is undone, as root on it; an engine verb begins with @."""

    name: str
    done: str
    undone: str
    found: str
    mounts: bool = False
    """Whether both are done from outside, since a container may not mount."""


def swap(path: str, content: str) -> tuple[str, str]:
    """Replaces a file, and puts the very same one back."""
    away = f"mv {path} {path}.away"
    return f"{away}; printf '{content}' >{path}", f"mv -f {path}.away {path}"


OUT_OF_REACH = (
    Fault("paused", "@pause", "@unpause", "no answer in time"),
    Fault("unplugged", "@disconnect", "@reconnect", "unreachable|no answer in time"),
    Fault(
        "key refused",
        "mv /home/deploy/.ssh/authorized_keys /home/deploy/.ssh/away",
        "mv /home/deploy/.ssh/away /home/deploy/.ssh/authorized_keys",
        "authentication refused",
    ),
    Fault(
        "host key changed",
        "mkdir /tmp/keys; cp -p /etc/ssh/ssh_host_* /tmp/keys; rm /etc/ssh/ssh_host_*; "
        'ssh-keygen -q -t ed25519 -N "" -f /etc/ssh/ssh_host_ed25519_key; systemctl restart ssh',
        "rm /etc/ssh/ssh_host_*; mv /tmp/keys/* /etc/ssh/; rmdir /tmp/keys; systemctl restart ssh",
        "host key refused: .*CHANGED",
    ),
    Fault(
        "sshd hangs",
        "systemctl stop ssh.socket ssh 2>/dev/null; "
        f'printf "{HUNG_SSHD}" >/tmp/hung.py; rm -f /tmp/hangs; '
        "setsid python3 /tmp/hung.py >/dev/null 2>&1 </dev/null & "
        "until [ -e /tmp/hangs ]; do sleep 0.1; done",
        "pkill -f '[h]ung.py'; systemctl start ssh",
        "no answer in time",
    ),
    Fault(
        "sshd gone",
        "systemctl stop ssh.socket ssh 2>/dev/null",
        "systemctl start ssh",
        "unreachable: .*refused",
    ),
    Fault("power cut", "@kill", "@start", "unreachable|no answer in time"),
)
NOT_READY = (
    Fault("sudo asks", f"sed -i s/NOPASSWD:// {SUDOERS}", "@prepare", "rights missing: sudo"),
    Fault("agent gone", f"rm {HELPER}", "@prepare", "agent"),
    Fault(
        "systemctl gone",
        "mv /usr/bin/systemctl /usr/bin/away",
        "mv /usr/bin/away /usr/bin/systemctl",
        "systemd did not say",
    ),
    Fault("python3 gone", *swap("/usr/bin/python3", ""), "python3|PATH|status"),
    Fault("disk too small", SMALL_DISK, f"umount {ROOT}/releases", "free space", mounts=True),
    Fault(
        "release root is not root's",
        f"chown deploy {ROOT}/releases",
        "@prepare",
        "owner of releases: .*root",
    ),
    Fault(
        "port taken",
        "systemctl stop router; "
        "setsid python3 -m http.server 7001 >/dev/null 2>&1 </dev/null & "
        "until python3 -c 'import socket; socket.create_connection((\"localhost\", 7001))' "
        "2>/dev/null; do sleep 0.1; done",
        "pkill -f '[h]ttp.server'",
        "release and ports: .*process",
    ),
)


def act(desk: Workstation, host: str, fault: Fault, script: str) -> None:
    if script.startswith("@"):
        if script == "@prepare":
            prepared = desk.prepare("-i", desk.inventory, "--host", host)
            assert prepared.code == 0, prepared
        else:
            getattr(desk.containers, script[1:])(host)
    elif fault.mounts:
        desk.from_outside(host, *script.split())
    else:
        desk.root(host, script)


@contextmanager
def suffering(desk: Workstation, faults: dict[str, Fault]) -> Iterator[None]:
    with ExitStack() as stack:
        for host, fault in faults.items():
            act(desk, host, fault, fault.done)
            stack.callback(act, desk, host, fault, fault.undone)
        yield


@pytest.fixture(scope="module")
def hasty(desk: Workstation) -> Path:
    """The same eight hosts, for an operator who does not wait long."""
    ssh = {"connect_timeout_s": 3, "command_timeout_s": 6}
    return desk.write_inventory("hasty.yaml", list(NAMES), ssh=ssh)


@pytest.mark.parametrize(
    ("faults", "within_s"),
    [
        pytest.param(OUT_OF_REACH, 20, id="out-of-reach"),
        # These answer; how soon is the machine's business.
        pytest.param(NOT_READY, None, id="not-ready"),
    ],
)
def test_p2_every_fault_is_named_with_its_host_in_time_and_nothing_is_touched(
    desk: Workstation, hasty: Path, faults: tuple[Fault, ...], within_s: int | None
) -> None:
    inventory = hasty if within_s else desk.inventory
    begun = desk.tool("deploy", "-i", desk.inventory, OLD)
    assert begun.code == 0, begun
    before = desk.looks(NAMES)
    victims = dict(zip(NAMES, faults, strict=False))
    with suffering(desk, victims):
        refused = desk.tool("deploy", "-i", inventory, NEW)
        status = desk.tool("status", "-i", inventory)
    assert refused.code == 3, refused
    assert "PREFLIGHT" in refused.err
    assert within_s is None or refused.took_s < within_s, refused
    assert status.code == 5, status
    for ended in (refused, status):
        lines = [line for line in ended.err.splitlines() if line.startswith("  router")]
        assert {line.split(":")[0].strip() for line in lines} == set(victims), ended
    for host, fault in victims.items():
        mine = " / ".join(line for line in refused.err.splitlines() if f"  {host}:" in line)
        assert re.search(fault.found, mine), (fault, mine, str(refused))

    after = desk.looks(NAMES)
    for host in NAMES:
        assert unchanged(before[host], after[host], victims.get(host)), (host, after[host])


def unchanged(before: Look, after: Look, fault: Fault | None) -> bool:
    """The very same process, unless the fault itself ended it."""
    if fault is not None and fault.name in {"power cut", "port taken"}:
        return all(before[key] == after[key] for key in ("current", "config", "locked"))
    return before == after


def test_two_names_for_one_machine_are_found(desk: Workstation) -> None:
    """P2: one machine that answers twice must not count as two hosts."""
    begun = desk.tool("deploy", "-i", desk.inventory, OLD)
    assert begun.code == 0, begun
    twin = desk.address("router2").rpartition(".")[0] + ".77"
    desk.from_outside("router2", "ip", "addr", "add", f"{twin}/24", "dev", "eth0")
    known = desk.containers.folder / "known_hosts"
    pinned = known.read_text()
    try:
        lines = [line for line in pinned.splitlines() if line.startswith(desk.address("router2"))]
        doubled = [line.replace(desk.address("router2"), twin, 1) for line in lines]
        known.write_text("\n".join([*pinned.splitlines(), *doubled, ""]))
        inventory = desk.write_inventory("twins.yaml", ["router1", "router2", "router3"])
        text = inventory.read_text().replace(desk.address("router3"), twin)
        inventory.write_text(text)
        before = desk.looks(NAMES[:3])
        for command, code in ((("status",), 5), (("deploy", NEW), 3)):
            ended = desk.tool(*command, "-i", inventory)
            assert ended.code == code, ended
            assert "router2: " in ended.err
            assert "the same machine as router3" in ended.out + ended.err, ended
        assert desk.looks(NAMES[:3]) == before
    finally:
        known.write_text(pinned)
        desk.from_outside("router2", "ip", "addr", "del", f"{twin}/24", "dev", "eth0")
