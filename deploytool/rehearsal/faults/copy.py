"""A host that refuses the copy: its file system takes no file beyond a size.

The limit is the kernel's own (RLIMIT_FSIZE, setrlimit(2)). On a local host it is its ``sshd``'s,
and every session inherits it. In a container, and on a virtual machine, PAM gives each session and
each ``sudo`` limits of its own (limits.conf(5)), so it is said there. It hurts nothing else.
"""

from __future__ import annotations

import resource
from collections.abc import Iterator
from contextlib import contextmanager

from deploytool.errors import EnvironmentProblem
from deploytool.rehearsal.fleets.local import LocalFleet
from deploytool.rehearsal.fleets.throwaway import Machines, Throwaway

_LIMIT_BYTES = 32 * 1024
_EXEC_S = 20.0
_LIMIT = """
file=/etc/security/limits.d/rehearsal.conf
rm -f "$file"
[ -z "$1" ] || printf '%s - fsize %s\\n' root "$1" deploy "$1" >"$file"
"""


@contextmanager
def refuses_copies(fleet: Throwaway, host: str) -> Iterator[None]:
    """While the block runs, no file on ``host`` can grow beyond 32 KiB.

    Raises:
        EnvironmentProblem: the limit can't be set on this kind of fleet.
    """
    if isinstance(fleet, LocalFleet):
        pid = _local_sshd(fleet, host)
        before = resource.prlimit(pid, resource.RLIMIT_FSIZE)
        resource.prlimit(pid, resource.RLIMIT_FSIZE, (_LIMIT_BYTES, before[1]))
        try:
            yield
        finally:
            resource.prlimit(pid, resource.RLIMIT_FSIZE, before)
        return
    if isinstance(fleet, Machines):
        _limit_inside(fleet, host, str(_LIMIT_BYTES // 1024))
        try:
            yield
        finally:
            _limit_inside(fleet, host, "")
        return
    raise EnvironmentProblem(
        f"A fleet of kind {fleet.kind} has no way to refuse copies.",
        "Nothing was rehearsed.",
        "deploytool rehearse --fleet local",
    )


def _local_sshd(fleet: LocalFleet, host: str) -> int:
    record = fleet.record()
    pids = [item.pid for item in record.hosts if item.name == host] if record else []
    if not pids or pids[0] is None:
        raise EnvironmentProblem(
            f"{host} of the local fleet has no sshd.",
            "Nothing was rehearsed.",
            "deploytool fleet down --fleet local, and rehearse again",
        )
    return pids[0]


def _limit_inside(fleet: Machines, host: str, limit: str) -> None:
    fleet.inside(host, ("sh", "-c", _LIMIT, "sh", limit), timeout_s=_EXEC_S)
