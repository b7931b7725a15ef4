"""What is true on a host, asked on the host itself with code of its own: no probe, no agent.

It runs there as one Python program (``/usr/bin/python3``, past whatever a fault put on PATH) and
looks at the kernel: the link, the bytes, every process that holds a release open, the listener.
"""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass

from deploytool.rehearsal.faults.host_shell import HostShell

_LOOK_S = 30.0

_PROGRAM = r"""
import glob, hashlib, json, os, re, subprocess, sys
root, name, port, supervisor = sys.argv[1:5]
root = os.path.realpath(root)

def digest(path):
    try:
        with open(path, "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError:
        return None

def read(path):
    try:
        with open(path) as file:
            return file.read()
    except OSError:
        return ""

try:
    linked = os.path.basename(os.readlink(root + "/current"))
except OSError:
    linked = None
inodes = {
    line.split()[9]
    for table in ("/proc/net/tcp", "/proc/net/tcp6")
    for line in read(table).splitlines()[1:]
    if line.split()[3] == "0A" and int(line.split()[1].rpartition(":")[2], 16) == int(port)
}
running, owners = {}, set()
for fd in glob.glob("/proc/[0-9]*/fd/*"):
    pid = int(fd.split("/")[2])
    try:
        target = os.readlink(fd)
    except OSError:
        continue
    if re.match(re.escape(root) + r"/releases/[0-9a-f]{64}/" + name, target):
        running[pid] = digest(fd)
    if target[:8] == "socket:[" and target[8:-1] in inodes:
        owners.add(pid)
if supervisor == "systemd":
    asked = ["systemctl", "show", "-p", "MainPID", "--value", name]
    main = int(subprocess.run(asked, capture_output=True, text=True).stdout.strip() or 0)
else:
    main = int((read(root + "/state/pid").split() or ["0"])[0])
    main = main if main in running else 0
print(json.dumps({
    "linked": linked,
    "on_disk": digest(root + "/current/" + name),
    "main": main,
    "running": {str(pid): sha for pid, sha in running.items()},
    "owners": sorted(owners),
    "locked": os.path.exists(root + "/state/lock"),
    "marked": os.path.exists(root + "/state/rollout"),
    "held": os.path.exists(root + "/state/held"),
}))
"""


@dataclass(frozen=True)
class Truth:
    """What one host is. ``running``: what each process loaded, by its own descriptor."""

    linked: str | None
    on_disk: str | None
    main: int
    running: tuple[tuple[int, str | None], ...]
    owners: tuple[int, ...]
    locked: bool
    marked: bool
    held: bool

    def runs(self, release: str) -> bool:
        """Whether this host runs the release, whole and alone, and serves with it."""
        return (
            self.linked == self.on_disk == release
            and self.running == ((self.main, release),)
            and self.owners == (self.main,)
        )

    def __str__(self) -> str:
        shown = ", ".join(f"{pid} runs {(sha or 'unseen')[:8]}" for pid, sha in self.running)
        return (
            f"linked {(self.linked or 'none')[:8]}, on disk {(self.on_disk or 'none')[:8]}, "
            f"main {self.main}, {shown or 'nothing runs'}, port of {list(self.owners)}"
        )


def truth(host_shell: HostShell) -> Truth:
    """Looks at one host.

    Raises:
        EnvironmentProblem: it can't be looked at.
    """
    arguments = (host_shell.root, host_shell.service, host_shell.port, host_shell.supervisor)
    if host_shell.fleet.kind == "local":
        argv = [sys.executable, "-I", "-c", _PROGRAM, *arguments]
        said = subprocess.run(argv, capture_output=True, text=True, timeout=_LOOK_S, check=True)
        return _parse(said.stdout)
    return _parse(host_shell.inside(("/usr/bin/python3", "-I", "-c", _PROGRAM, *arguments)))


def _parse(text: str) -> Truth:
    said = json.loads(text)
    running = tuple(sorted((int(pid), sha) for pid, sha in said["running"].items()))
    return Truth(
        said["linked"],
        said["on_disk"],
        said["main"],
        running,
        tuple(said["owners"]),
        said["locked"],
        said["marked"],
        said["held"],
    )
