"""How a service ended that does not run: systemd's own words and numbers, for a person. Pure."""

from __future__ import annotations

import signal
from collections.abc import Mapping
from types import MappingProxyType

_BEFORE: Mapping[int, str] = MappingProxyType(
    {
        200: "CHDIR, its working folder can't be entered",
        201: "NICE, its priority can't be set (service.unit.nice)",
        203: "EXEC, the artifact can't be executed",
        205: "LIMITS, its limits can't be set (service.unit.limits)",
        214: "SETSCHEDULER, its scheduling can't be set",
        215: "CPUAFFINITY, it can't be kept to its processors (service.unit.cpus)",
        216: "GROUP, its group can't be taken",
        217: "USER, its account can't be taken",
        218: "CAPABILITIES, they can't be given (service.unit.capabilities)",
        219: "CGROUP, its control group can't be set up",
        226: "NAMESPACE, its sandbox can't be set up (is all of service.unit.writable there?)",
        227: "NO_NEW_PRIVILEGES, it can't be kept from other rights",
    }
)
"""systemd's own exit codes, before the artifact begins (systemd.exec(5), Process Exit Codes)."""
_SYSTEMDS = range(200, 246)
_OTHER = "which is systemd's own, see systemd.exec(5)"
_RESULTS: Mapping[str, str] = MappingProxyType(
    {
        "exec-condition": "it was not started, for it is fenced or was never confirmed",
        "oom-kill": "the kernel killed it for want of memory",
        "start-limit-hit": "it ended too often, and is not started again",
        "timeout": "it did not end, or not begin, in time",
        "watchdog": "its watchdog was not answered",
        "resources": "systemd lacked resources to start it",
        "protocol": "it did not begin as its unit says",
    }
)
_EXITED, _KILLED, _DUMPED = "1", "2", "3"
"""CLD_EXITED, CLD_KILLED and CLD_DUMPED of sigaction(2), in ``ExecMainCode``."""


def how_it_ended(unit: Mapping[str, str]) -> str:
    """What systemd says of a unit that has no main process; empty where it says nothing of it.

    ``unit``: its properties, as systemctl(1) shows them.
    """
    result, code = unit.get("Result", ""), unit.get("ExecMainCode", "")
    status = unit.get("ExecMainStatus", "")
    number = int(status) if status.isascii() and status.isdigit() and len(status) < 4 else None
    said = [_RESULTS[result]] if result in _RESULTS else []
    if number is not None and code == _EXITED and (number or result == "exit-code"):
        said.append(_exit(number))
    elif number is not None and code in {_KILLED, _DUMPED}:
        said.append(f"ended by {_signal(number)}" + (", with a core dump" * (code == _DUMPED)))
    restarts = unit.get("NRestarts", "0")
    if said and restarts.isascii() and restarts.isdigit() and int(restarts):
        said.append(f"started again {restarts} times" if restarts != "1" else "started again once")
    return ", ".join(said)


def _exit(number: int) -> str:
    if number not in _SYSTEMDS:
        return f"exit code {number}"
    return f"exit code {number}/{_BEFORE.get(number, _OTHER)}"


def _signal(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
