"""What ``host prepare`` puts on a host: the helper, the unit and the one line of sudo rights.

All of it is rendered from the inventory, so that its digests are known before a host is asked.
This is the one place where arguments are quoted for a shell.
"""

from __future__ import annotations

import hashlib
import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources

from deploytool.fleet import helper_command
from deploytool.fleet.model import Argv, Digest, Inventory

UNIT_FOLDER = "/usr/local/lib/systemd/system"
"""A unit here can be masked; one in /etc/systemd/system can't (systemctl(1), mask)."""

FLAG_VERBS = ("observe", "prepare", "commit", "settle", "disarm")


@dataclass(frozen=True)
class HostFiles:
    """The files that a prepared host has, whole, and where they stand."""

    helper_path: str
    helper: str
    unit_path: str | None
    unit: str | None
    sudoers_path: str | None
    sudoers: str | None
    signers_path: str | None = None
    signers: str | None = None

    @property
    def helper_digest(self) -> Digest:
        """SHA-256 of the helper as it must stand on the host."""
        return _digest(self.helper)

    @property
    def unit_digest(self) -> Digest | None:
        """SHA-256 of the unit as it must stand on the host; None without systemd."""
        return None if self.unit is None else _digest(self.unit)

    @property
    def signers_digest(self) -> Digest | None:
        """SHA-256 of the signers file as it must stand on the host; None where nobody signs."""
        return None if self.signers is None else _digest(self.signers)


def _digest(text: str) -> Digest:
    return Digest(hashlib.sha256(text.encode()).hexdigest())


@cache
def _template() -> str:
    """The helper without its settings: one script, in parts joined in the order of their names."""
    folder = resources.files("deploytool.fleet").joinpath("onhost")
    parts = sorted((p for p in folder.iterdir() if p.name.endswith(".sh")), key=lambda p: p.name)
    return "".join(part.read_text(encoding="utf-8") for part in parts)


def helper_path(inventory: Inventory, host: str) -> str:
    """Where the helper stands: outside the release root where root owns it."""
    service = inventory.service
    return helper_command.helper_path(service.supervisor, service.name, inventory.root(host))


def ports(inventory: Inventory, host: str) -> tuple[int, ...]:
    """The TCP ports that the service must own on this host."""
    return tuple(
        int(inventory.expand(text, host).rpartition(":")[2]) for text in inventory.service.listen
    )


def service_account(inventory: Inventory) -> str | None:
    """The account that the service runs as; None where it is the deploy account itself."""
    if inventory.service.supervisor == "process":
        return None
    return inventory.service.user or inventory.service.name


_GIVEN = re.compile(r"\{(current|flag|reason|by|nonce)\}")
_VARIABLES = {"current": "CUR", "flag": "flag", "reason": "REASON", "by": "BY", "nonce": "LEASE"}
"""What is known only when the command is run: the shell's variables that hold it."""


def _command(name: str, template: Argv, inventory: Inventory, host: str) -> str:
    """A shell function that puts a fixed argument list behind the words that it is given."""
    words = []
    for argument in template:
        # Every second part is the name of what is filled in on the host.
        fixed, *rest = _GIVEN.split(argument)
        quoted = [shlex.quote(inventory.expand(fixed, host)) if fixed else ""]
        for given, part in zip(rest[::2], rest[1::2], strict=True):
            quoted.append(f'"${_VARIABLES[given]}"')
            quoted.append(shlex.quote(inventory.expand(part, host)) if part else "")
        words.append("".join(quoted))
    return f'{name}() {{ "$@" {" ".join(words)}; }}'


def assignments(values: Mapping[str, str]) -> list[str]:
    """Shell assignments, one a line where the values have no line breaks, every value quoted."""
    return [f"{key}={shlex.quote(value)}" for key, value in values.items()]


def _settings(inventory: Inventory, host: str) -> str:
    service = inventory.service
    values = {
        "HELPER": helper_path(inventory, host),
        "ROOT": inventory.root(host),
        "FLEET": inventory.fleet,
        "HOST": host,
        "NAME": service.name,
        "ACCOUNT": service_account(inventory) or "",
        "SUPERVISOR": service.supervisor,
        "UNIT": f"{service.name}.service",
        "READY_S": str(max(1, round(service.ready_timeout_s))),
        "STOP_S": str(max(1, round(service.stop_timeout_s))),
        "SIGNERS": inventory.signers_path(host) if inventory.signers else "",
        "FLAGS": "yes" if service.flags else "",
        "ASK_S": str(max(1, round(service.ask_timeout_s))),
        "LISTEN_PORTS": " ".join(map(str, ports(inventory, host))),
        # As proc_net_tcp(5) spells them.
        "PORTS_HEX": " ".join(f"{port}:{port:04X}" for port in ports(inventory, host)),
        "HALT_SIGNAL": service.halt_signal or "",
    }
    optional = {"HALT": service.halt, "LEASE": service.lease, "RESUME": service.resume}
    values |= {f"HAS_{word}": "yes" if argv else "no" for word, argv in optional.items()}
    lines = [
        *assignments(values),
        _command("run_start", service.start, inventory, host),
        _command("run_version", service.version, inventory, host),
        _command("run_status", service.status, inventory, host),
        *(
            _command(f"run_{word.lower()}", argv or (":",), inventory, host)
            for word, argv in optional.items()
        ),
    ]
    if service.flags is not None:
        lines += [
            _command(f"run_flag_{verb}", getattr(service.flags, verb), inventory, host)
            for verb in FLAG_VERBS
        ]
    paths = [inventory.expand(path, host) for path in inventory.config_files]
    calls = "; ".join(f"config_file {shlex.quote(path)}" for path in paths) or ":"
    return "\n".join([*lines, f"each_config() {{ {calls}; }}"])


def _unit_quote(argument: str) -> str:
    """An argument of ExecStart, as systemd.service(5) and systemd.unit(5) read it."""
    escaped = argument.replace("\\", "\\\\").replace('"', '\\"')
    return '"' + escaped.replace("%", "%%").replace("$", "$$") + '"'


_NOT_ORPHANED = (
    'test ! -e "$$0" || test "$$(head -n 1 "$$0")" = "$$(cat /proc/sys/kernel/random/boot_id)"'
)
"""Holds where no confirmation is awaited, or one is awaited since this boot."""


def _unit(inventory: Inventory, host: str) -> str:
    service = inventory.service
    account = service_account(inventory)
    start = " ".join(_unit_quote(word) for word in inventory.argv(service.start, host))
    root = inventory.root(host)
    return f"""\
# Written by "deploytool host prepare" for the fleet {inventory.fleet}. Do not edit: it is evidence.
[Unit]
Description={service.name} of the fleet {inventory.fleet}
After=network-online.target
Wants=network-online.target

[Service]
Type=exec
User={account}
Group={account}
# What was activated and never confirmed does not come back with a reboot.
ExecCondition=/bin/sh -c '{_NOT_ORPHANED}' {root}/state/deadman
# What was fenced by a stop comes back with nothing but a start that a second person signed.
ExecCondition=/bin/sh -c 'test ! -e "$$0"' {root}/state/fenced
ExecStart={start}
Environment=LANG=C
UMask=0027
Restart=on-failure
RestartSec=1
TimeoutStopSec={max(1, round(service.stop_timeout_s))}
KillMode=control-group
NoNewPrivileges=yes
ProtectSystem=strict
ReadWritePaths={root}/state/service
ProtectHome=yes
PrivateTmp=yes

[Install]
WantedBy=multi-user.target
"""


def _sudoers(inventory: Inventory, account: str, path: str) -> str:
    # The empty string forbids arguments (sudoers(5)): the request comes on standard input.
    return (
        f"# Written by deploytool host prepare for the fleet {inventory.fleet}.\n"
        f"Defaults!{path} !requiretty, env_reset\n"
        f'{account} ALL=(root) NOPASSWD: {path} ""\n'
    )


def host_files(inventory: Inventory, host: str, deploy_account: str) -> HostFiles:
    """Everything that preparation installs on ``host``, rendered from the inventory."""
    path = helper_path(inventory, host)
    systemd = inventory.service.supervisor == "systemd"
    helper = _template().replace("#@SETTINGS@", _settings(inventory, host), 1)
    name = inventory.service.name
    return HostFiles(
        helper_path=path,
        helper=helper,
        unit_path=f"{UNIT_FOLDER}/{name}.service" if systemd else None,
        unit=_unit(inventory, host) if systemd else None,
        sudoers_path=f"/etc/sudoers.d/deploytool-{name}" if systemd else None,
        sudoers=_sudoers(inventory, deploy_account, path) if systemd else None,
        signers_path=inventory.signers_path(host) if inventory.signers else None,
        signers=inventory.allowed_signers,
    )


def invocation(inventory: Inventory, host: str) -> str:
    """The one command line that a deploy runs on a host, whatever the request."""
    return helper_command.invocation(inventory.service.supervisor, helper_path(inventory, host))


def sudo_asks(text: str) -> bool:
    """Whether this is how sudo says that it would have had to ask for a password."""
    return re.search(r"sudo: .*(password|terminal|not allowed|may not run)", text) is not None
