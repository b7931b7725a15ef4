"""What an inventory may say about the service's systemd unit. Pure."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, StringConstraints

from deploytool.fleet.fields import Frozen, HostPath, Line

Variable = Annotated[str, StringConstraints(pattern=r"^[A-Za-z_][A-Za-z0-9_]{0,63}$")]
UnitName = Annotated[
    str,
    StringConstraints(pattern=r"^[A-Za-z0-9:_.@-]{1,200}\.(service|socket|target|mount|timer)$"),
]
Cpus = Annotated[str, StringConstraints(pattern=r"^\d{1,4}(-\d{1,4})?(,\d{1,4}(-\d{1,4})?){0,63}$")]
Limit = Literal[
    "as",
    "core",
    "cpu",
    "data",
    "fsize",
    "memlock",
    "msgqueue",
    "nofile",
    "nproc",
    "rss",
    "rtprio",
    "rttime",
    "sigpending",
    "stack",
]
"""Resources of setrlimit(2), by the ends of systemd's names (``LimitNOFILE=``)."""
Capability = Literal[
    "net_bind_service",
    "net_broadcast",
    "net_raw",
    "ipc_lock",
    "sys_nice",
    "sys_resource",
    "wake_alarm",
    "block_suspend",
]
"""Those that give no way to become root, or to change what a proof rests on."""


class UnitOptions(Frozen):
    """What the systemd unit gives the service beside what every unit has. See docs/contract.md.

    ``limits``: the soft and hard limit of each resource, in the unit of setrlimit(2).
    ``capabilities``: the service has these, and can never have others (capabilities(7)).
    """

    environment: Annotated[dict[Variable, Line], Field(max_length=32)] = Field(default_factory=dict)
    limits: dict[Limit, Annotated[int, Field(ge=0, lt=2**63)] | Literal["infinity"]] = Field(
        default_factory=dict
    )
    capabilities: tuple[Capability, ...] = ()
    writable: Annotated[tuple[HostPath, ...], Field(max_length=64)] = ()
    """What it may write to beside its own state folder, where its account's rights allow it."""
    after: Annotated[tuple[UnitName, ...], Field(max_length=32)] = ()
    cpus: (
        Annotated[str, StringConstraints(pattern=r"^\d{1,4}(-\d{1,4})?(,\d{1,4}(-\d{1,4})?)*$")]
        | None
    ) = None
    """The processors that it runs on, such as ``2-3,6``."""
    cpu_percent: Annotated[int, Field(ge=1, le=100_000)] | None = None
    """So much of one processor's time at most."""
    memory_max: Annotated[str, StringConstraints(pattern="^[1-9][0-9]{0,17}[KMGT]?$")] | None = None
    """In bytes; the kernel kills what needs more."""
    nice: Annotated[int, Field(ge=-20, le=19)] = 0
    sandbox: bool = True
    """Whether it sees the host's files read-only, no homes, and a /tmp of its own."""
