"""What an inventory says: frozen, validated values. The YAML is read in ``inventory``. Pure."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import Annotated, Literal, NewType

from pydantic import (
    AfterValidator,
    Field,
    PrivateAttr,
    StringConstraints,
)

from deploytool.fleet.fields import (
    Account,
    Argv,
    Frozen,
    HostName,
    HostPath,
    Line,
    Name,
    Program,
    RootPath,
    Seconds,
    Wave,
)
from deploytool.fleet.names import ADDRESS
from deploytool.fleet.unit_options import UnitOptions

Digest = NewType("Digest", str)
"""A SHA-256 in 64 lower-case hexadecimal digits."""

PLACEHOLDER = re.compile(r"\{([a-z_]*)\}")
BUILT_IN_PLACEHOLDERS = frozenset(
    {"root", "current", "state", "host", "fleet", "signers", "lease_s"}
)
"""Filled in from the inventory, the same for every run of a command on a host."""
_BOTH_WAYS = {verb: (("service", verb), ("service", "socket", verb)) for verb in ("halt", "lease")}
ASKED_PLACEHOLDERS: Mapping[tuple[str, ...], frozenset[str]] = MappingProxyType(
    {
        **{
            ("service", "flags", verb): frozenset({"flag"})
            for verb in ("prepare", "commit", "settle", "disarm")
        },
        **dict.fromkeys(_BOTH_WAYS["halt"], frozenset({"reason", "by"})),
        **dict.fromkeys(_BOTH_WAYS["lease"], frozenset({"nonce"})),
        ("gateway", "use"): frozenset({"flag", "bit", "release"}),
        ("gateway", "withdraw"): frozenset({"flag", "bit"}),
    }
)
"""Filled in each time, from what was asked: the words that a command's place knows besides."""
OPERATORS_COMMANDS = ("gateway", "membership", "silence")
"""Keys whose commands run on the operator's machine: no host's words are known there."""


FLAG_NAME = r"^[A-Z][A-Z0-9_]{0,31}$"


def _in_state(text: str) -> str:
    if not re.fullmatch(r"\{state\}/[A-Za-z0-9_-][A-Za-z0-9._-]*", text):
        raise ValueError("must be a file in the state folder, such as '{state}/control.sock'")
    return text


class FlagCommands(Frozen):
    """How the running process is asked about its flags, and told. See docs/contract.md."""

    observe: Argv
    prepare: Argv
    commit: Argv
    settle: Argv
    disarm: Argv


class ServiceSocket(Frozen):
    """A socket on which the running process answers by itself; see docs/contract.md, section 9.

    Asking there costs a host no interpreter. What is not answered there is asked by its command.
    """

    path: Annotated[str, AfterValidator(_in_state)]
    status: Line
    halt: Line | None = None
    lease: Line | None = None


class Neighbour(Frozen):
    """A process that is expected beside the service: what it executes, as whom, and why."""

    executable: HostPath
    account: Account
    reason: Line


class Service(Frozen):
    """How the artifact is run and asked on a host. See docs/contract.md."""

    name: Name
    user: Account | None = None
    supervisor: Literal["systemd", "process"]
    python: Program | None = None
    """The agent's interpreter; None: the system's. Only root may be able to change it."""
    start: Argv
    version: Argv
    status: Argv
    flags: FlagCommands | None = None
    halt: Argv | None = None
    """Has the running process stop sending, cancel, and latch that on disk."""
    halt_signal: Literal["USR1", "USR2"] | None = None
    """Does the same at once, without an answer: sent before ``halt`` is run."""
    lease: Argv | None = None
    """Renews the process's lease by the nonce that it issued."""
    resume: Argv | None = None
    """Releases a halt, from the signed request on its standard input."""
    socket: ServiceSocket | None = None
    """Where ``status``, ``halt`` and ``lease`` are asked first."""
    listen: tuple[Line, ...] = ()
    connects: Annotated[tuple[Line, ...], Field(max_length=64)] = ()
    """Where its effects go, ``ADDRESS:PORT``: what else is connected there acts as the service."""
    redirects: Literal["told", "checked"] = "told"
    """What packet rules come to that can't be inspected: told with a proof, or no proof."""
    neighbours: Annotated[tuple[Neighbour, ...], Field(max_length=64)] = ()
    """What may be connected there, hold a port or use the account all the same."""
    ready_timeout_s: Seconds = 20.0
    stop_timeout_s: Seconds = 10.0
    ask_timeout_s: Annotated[float, Field(ge=1, le=300)] = 5.0
    """How long ``version``, ``status`` and the artifact's other short commands may take."""
    soak_s: Annotated[float, Field(ge=0, le=3600)] = 3.0
    """How long each process must have run before its wave and the fleet count as proven."""
    unit: UnitOptions | None = None
    """What its systemd unit gives it besides."""
    expect_state: Literal["active", "halted"] = "active"
    """How hosts trade once they were switched. ``halted``: outside hours, when none comes up."""
    deadman_s: Annotated[int, Field(ge=0, le=86400)] = 0
    """An activated host that isn't confirmed within so many seconds stops serving; 0: never."""


class GatewayConfig(Frozen):
    """How those who set bits in messages are told and observed, on the operator's machine."""

    use: Argv
    withdraw: Argv
    observe: Argv
    timeout_s: Seconds = 5.0


class Membership(Frozen):
    """What lists, on the operator's machine, the hosts that take traffic now."""

    command: Argv
    timeout_s: Seconds = 5.0


class Silence(Frozen):
    """What says, on the operator's machine, when each host was last seen to send a child order."""

    command: Argv
    timeout_s: Annotated[float, Field(gt=0, le=60)] = 5.0
    others: Annotated[tuple[Line, ...], Field(max_length=1024)] = ()
    """Names that it may name and that belong to another fleet: they are shown, and not judged."""


class RehearsalDemand(Frozen):
    """What must have been rehearsed before a release comes to this fleet. See docs/gate.md.

    ``records``: the folder of the records; ``signers``: whose records are believed, an
    allowed-signers file; both beside the inventory. ``faults``: cases that struck, at least.
    """

    records: Line
    signers: Line
    within_days: Annotated[int, Field(ge=1, le=366)] = 14
    scenarios: Annotated[tuple[Line, ...], Field(min_length=1, max_length=64)] = (
        "healthy",
        "copy-fails",
        "missed-host",
    )
    faults: Annotated[int, Field(ge=0, le=100_000)] = 0


class SshOptions(Frozen):
    """How hosts are reached; what is not said here is what OpenSSH's own configuration says."""

    user: Account | None = None
    known_hosts: Line
    identity_file: Line | None = None
    config_file: Line | None = None
    connect_timeout_s: Seconds = 5.0
    command_timeout_s: Seconds = 30.0
    transfer_timeout_s: Seconds = 600.0


class HostSpec(Frozen):
    """One declared host. ``address`` may be a name that OpenSSH's configuration knows."""

    address: Annotated[str, StringConstraints(pattern=f"^{ADDRESS}$")]
    port: Annotated[int, Field(ge=1, le=65535)] | None = None
    user: Account | None = None
    identity_file: Line | None = None
    vars: dict[Name, Line] = Field(default_factory=dict)


class Inventory(Frozen):
    """One fleet: identical servers, declared by name. ``expect`` must equal their number."""

    fleet: Name
    expect: Annotated[int, Field(ge=1, le=1024)]
    throwaway: bool = False
    release_root: RootPath
    service: Service
    config_files: tuple[HostPath, ...] = ()
    signers: Line | None = None
    gateway: GatewayConfig | None = None
    membership: Membership | None = None
    silence: Silence | None = None
    lease_s: Annotated[float, Field(ge=0, le=3600)] = 0.0
    """A process that isn't renewed for so long halts by itself; 0: it goes on without anybody."""
    rehearsal: RehearsalDemand | None = None
    ssh: SshOptions
    keep_releases: Annotated[int, Field(ge=2, le=100)] = 5
    waves: Annotated[tuple[Wave, ...], Field(min_length=1)] = (1, "rest")
    hosts: Annotated[dict[HostName, HostSpec], Field(min_length=1)]
    _allowed_signers: str | None = PrivateAttr(default=None)

    @property
    def allowed_signers(self) -> str | None:
        """The signers file's text, as it was when the inventory was read; None without one."""
        return self._allowed_signers

    def with_signers(self, path: str, text: str) -> Inventory:
        """The same with its signers file: where it stands on this machine, and what is in it."""
        made = self.model_copy(update={"signers": path})
        made._allowed_signers = text
        return made

    @property
    def names(self) -> tuple[str, ...]:
        """Names of all declared hosts, in the one order in which locks are taken."""
        return tuple(sorted(self.hosts))

    def root(self, host: str) -> str:
        """The release root on this host."""
        return self.release_root.replace("{host}", host)

    def signers_path(self, host: str) -> str:
        """Where the signers file stands on this host: root's, where hosts have a root."""
        if self.service.supervisor == "systemd":
            return f"/etc/deploytool/{self.service.name}/allowed_signers"
        return f"{self.root(host)}/etc/allowed_signers"

    def expand(self, text: str, host: str) -> str:
        """``text`` with its placeholders filled in for ``host``.

        Raises:
            KeyError: a placeholder is neither built in nor one of the host's ``vars``.
        """
        root = self.root(host)
        values = {
            **self.hosts[host].vars,
            "root": root,
            "current": f"{root}/current",
            "state": f"{root}/state/service",
            "host": host,
            "fleet": self.fleet,
            "signers": self.signers_path(host),
            "lease_s": f"{self.lease_s:g}",
        }
        return PLACEHOLDER.sub(lambda match: values[match.group(1)], text)

    def argv(self, template: Argv, host: str) -> tuple[str, ...]:
        """An argument list with its placeholders filled in for ``host``."""
        return tuple(self.expand(argument, host) for argument in template)

    def digest(self) -> Digest:
        """SHA-256 over the canonical JSON of what the inventory says about the fleet.

        How one operator's machine reaches it (``ssh``, key files, whom it asks about senders,
        what it wants rehearsed) is left out: the same fleet has the same digest on every machine.
        """
        own = dict.fromkeys(("ssh", "signers", "rehearsal", *OPERATORS_COMMANDS), True)
        said = self.model_dump(
            mode="json", exclude={**own, "hosts": {"__all__": {"identity_file", "user"}}}
        )
        text = json.dumps(said, sort_keys=True, separators=(",", ":"))
        return Digest(hashlib.sha256(text.encode()).hexdigest())


def split_waves(waves: tuple[Wave, ...], names: tuple[str, ...]) -> tuple[tuple[str, ...], ...]:
    """Deals ``names`` into waves, in order; hosts that the sizes leave over join the last wave.

    No wave is empty, and each name stands in exactly one.
    """
    dealt: list[tuple[str, ...]] = []
    left = list(names)
    for size in waves:
        count = len(left) if size == "rest" else size
        if left:
            dealt.append(tuple(left[:count]))
            left = left[count:]
    if left:
        dealt[-1] = (*dealt[-1], *left)
    return tuple(dealt)
