"""A host that refuses the copy: its file system takes no file beyond a size.

The limit is the kernel's own (RLIMIT_FSIZE, setrlimit(2)) on the host's ``sshd``, which every
session inherits. It works for root and without root, and hurts nothing else of the machine.
"""

from __future__ import annotations

import resource
from collections.abc import Iterator
from contextlib import contextmanager

from deploytool.errors import EnvironmentProblem
from deploytool.rehearsal.fleets.container import ContainerFleet
from deploytool.rehearsal.fleets.local import LocalFleet
from deploytool.rehearsal.fleets.model import Throwaway

_LIMIT_BYTES = 32 * 1024
_EXEC_S = 10.0


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
    if isinstance(fleet, ContainerFleet):
        _limit_inside(fleet, host, f"{_LIMIT_BYTES}:")
        try:
            yield
        finally:
            _limit_inside(fleet, host, "unlimited:")
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


def _limit_inside(fleet: ContainerFleet, host: str, limit: str) -> None:
    script = 'prlimit --pid "$(systemctl show -p MainPID --value ssh)" "--fsize=$1"'
    fleet.inside(host, ("sh", "-c", script, "sh", limit), timeout_s=_EXEC_S)
