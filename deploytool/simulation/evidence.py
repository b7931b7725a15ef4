"""What a probe of a simulated machine says: line by line what the helper says."""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterator

from deploytool.simulation.machine import SimulatedProcess, sha256
from deploytool.simulation.request import HelperRequest
from deploytool.simulation.service import Unit
from deploytool.simulation.stopping import Stopping

_INTERPRETER = sha256(b"python3")


def show(helper: Stopping, request: HelperRequest, say: Callable[[str], None]) -> None:
    """One round of one host."""
    for lines in (_host, _signers, _marks, _files, _unit, _processes):
        for line in lines(helper, request):
            say(line)


def _base64(content: bytes) -> str:
    return base64.b64encode(content).decode()


def _host(helper: Stopping, request: HelperRequest) -> Iterator[str]:
    machine = helper.machine
    yield f"helper {helper.digest(helper.path)}"
    yield f"machine {machine.machine_id}"
    yield f"boot {machine.boot_id}"
    yield f"clock {machine.clock:.9f}"
    yield f"root {helper.service.root}"
    yield f"rights {helper.rights} {helper.rights} {helper.rights} "
    yield f"free {machine.disk.room}"
    for program in request.requires:
        if program not in machine.programs:
            yield f"lacks {program}"


def _signers(helper: Stopping, _request: HelperRequest) -> Iterator[str]:
    if helper.signers:
        digest = helper.digest(helper.signers) or "missing"
        file = helper.machine.disk.files.get(helper.signers)
        own = f"{file.owner}:{file.mode:o} " if file else ""
        yield f"signers {digest} {own}{helper.rights} "


def _marks(helper: Stopping, request: HelperRequest) -> Iterator[str]:
    if (token := helper.text("token")) is not None:
        yield f"token {token.strip()}"
    for mark in ("lock", "verified", "rollout", "finished", "held", "previous", "meant", "deadman"):
        if (text := helper.text(mark)) is not None:
            yield f"{mark} {text.replace(chr(10), ' ')}"
    stopped: list[str] = []
    helper.say_latch(stopped.append)
    yield from stopped
    release, manifest = request["release"], request["manifest"]
    label = f"{helper.root}/releases/{release}/release.json"
    if manifest:
        request.needs("release")
        yield f"holds {release} {helper.release_state(release, manifest)}"
    elif release:
        digest = helper.digest(label)
        yield f"holds {release} {helper.release_state(release, digest)}"
        if digest:
            yield f"label {digest} {_base64(helper.machine.disk.files[label].content)}"


def _quick(helper: Stopping, request: HelperRequest) -> bool:
    """Whoever asks about one release has no use for the bytes and words of another."""
    return request["ask"] == "target" and helper.linked() != request["release"]


def _files(helper: Stopping, request: HelperRequest) -> Iterator[str]:
    disk, root = helper.machine.disk, helper.service.root
    target = disk.links.get(f"{root}/current")
    if target is None:
        yield "current none"
        return
    yield f"current {target}"
    file = disk.files.get(f"{root}/{target}/{helper.service.name}")
    if file is not None:
        stamp = f"{helper.machine.boots}.000000000"
        size = len(file.content)
        yield f"file 8:{file.inode} {size} {file.owner}:{file.mode:o} {stamp} {stamp}"
        if request["disk"] != "skip" and not _quick(helper, request):
            read = helper.disk_digest(f"{root}/{target}/{helper.service.name}")
            yield f"disk {read} {'direct' if disk.direct else 'cached'}"
    if (manifest := disk.files.get(f"{root}/{target}/release.json")) is not None:
        yield f"manifest {sha256(manifest.content)} {_base64(manifest.content)}"


def _unit(helper: Stopping, _request: HelperRequest) -> Iterator[str]:
    unit, pid = helper.service.unit, helper.service.main_pid
    yield f"main {pid}"
    if unit is None:
        return
    active = unit.active if pid or unit.active != "active" else "failed"
    properties = {
        "MainPID": str(pid),
        "NRestarts": "0",
        "ControlGroup": f"/system.slice/{helper.service.name}.service" if pid else "",
        "LoadState": "masked" if unit.masked else "loaded",
        "ActiveState": active,
        "SubState": {"active": "running", "inactive": "dead"}.get(active, active),
        "FragmentPath": unit.path,
        "DropInPaths": " ".join(unit.drop_ins),
        "UnitFileState": _file_state(unit),
        "NeedDaemonReload": "no",
    }
    for key, value in properties.items():
        yield f"unit {key}={value}"
    for path, content in {unit.path: unit.content, **unit.drop_ins}.items():
        yield f"unitfile {sha256(content)} {path}"


def _file_state(unit: Unit) -> str:
    if unit.masked:
        return "masked"
    return "enabled" if unit.enabled else "disabled"


def _processes(helper: Stopping, request: HelperRequest) -> Iterator[str]:
    quick = _quick(helper, request)
    machine, service = helper.machine, helper.service
    for path in helper.configs:
        yield f"config {helper.digest(path) or 'missing'} {path}"
    for port in service.ports:
        if (owner := machine.owner(port)) is not None:
            yield f"owner {port} {owner}"
    running = sorted(service.of_this_root(), key=lambda process: str(process.pid))
    for number, process in enumerate(running):
        yield _process(process)
        yield _runs(process, read=not quick)
        if number == 0:
            yield f"interpreter {_INTERPRETER} /usr/bin/python3"
    if service.unit is not None:
        yield from (f"group {process.pid}" for process in running if process.in_group)
    if (service.main_pid or running) and not quick and request["ask"] != "never":
        yield f"status {_base64(service.status().encode())}"
    for process in running:
        yield f"still {process.pid} {process.start}"


def _process(process: SimulatedProcess) -> str:
    return f"process {process.pid} {process.parent} {process.start} S {process.command}"


def _runs(process: SimulatedProcess, *, read: bool) -> str:
    """What the descriptor leads to: the inode that was opened, whatever its name means now."""
    file = process.file
    if file is None:
        return f"unseen {process.pid}"
    gone = " (deleted)" if file.deleted else ""
    digest = sha256(file.content) if read else "unread"
    return f"runs {process.pid} fd 8:{file.inode} {digest} {process.path}{gone}"
