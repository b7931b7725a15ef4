"""The systemd unit of a service, rendered from the inventory: it is evidence, byte by byte. Pure.

What every unit has comes first; what ``service.unit`` adds is systemd.exec(5)'s and
systemd.resource-control(5)'s, by names of its own, so that no text of an inventory is a directive.
"""

from __future__ import annotations

from collections.abc import Iterator

from deploytool.fleet.agent_settings import service_account, settings_of
from deploytool.fleet.model import Inventory
from deploytool.fleet.unit_options import UnitOptions

_SANDBOXED = """\
ProtectSystem=strict
ReadWritePaths={paths}
ProtectHome=yes
PrivateTmp=yes
"""
_NOT_ORPHANED = (
    'test ! -e "$$0" || test "$$(head -n 1 "$$0")" = "boot $$(cat /proc/sys/kernel/random/boot_id)"'
)
"""Holds where no confirmation is awaited, or one is awaited since this boot."""


def unit_file(inventory: Inventory, host: str) -> str:
    """The unit as it must stand on ``host``."""
    service = inventory.service
    options = service.unit or UnitOptions()
    account = service_account(inventory)
    start = " ".join(_argument(word) for word in inventory.argv(service.start, host))
    root = inventory.root(host)
    own = "".join(f"{line}\n" for line in _own(options, inventory, host))
    return f"""\
# Written by "deploytool host prepare" for the fleet {inventory.fleet}. Do not edit: it is evidence.
[Unit]
Description={service.name} of the fleet {inventory.fleet}
After={" ".join(("network-online.target", *options.after))}
Wants=network-online.target

[Service]
Type=exec
User={account}
Group={account}
# What was activated and never confirmed does not come back with a reboot.
ExecCondition=/bin/sh -c '{_NOT_ORPHANED}' {root}/state/deadman
# What was fenced by a stop comes back with nothing but a start that a second person signed.
ExecCondition=/bin/sh -c 'test ! -e "$$0"' {root}/state/fenced
{_halted_first(inventory, host)}ExecStart={start}
Environment=LANG=C
{own}UMask=0027
Restart=on-failure
RestartSec=1
TimeoutStopSec={max(1, round(service.stop_timeout_s))}
KillMode=control-group
NoNewPrivileges=yes
{_sandbox(options, inventory, host)}
[Install]
WantedBy=multi-user.target
"""


def _own(options: UnitOptions, inventory: Inventory, host: str) -> Iterator[str]:
    """What the inventory adds to every unit's own settings."""
    for name, value in options.environment.items():
        yield f"Environment={_quoted(f'{name}={inventory.expand(value, host)}')}"
    for name, limit in options.limits.items():
        yield f"Limit{name.upper()}={limit}"
    if options.capabilities:
        names = " ".join(f"CAP_{name.upper()}" for name in options.capabilities)
        yield f"CapabilityBoundingSet={names}"
        yield f"AmbientCapabilities={names}"
    if options.cpus is not None:
        yield f"CPUAffinity={options.cpus}"
    if options.cpu_percent is not None:
        yield f"CPUQuota={options.cpu_percent}%"
    if options.memory_max is not None:
        yield f"MemoryMax={options.memory_max}"
    if options.nice:
        yield f"Nice={options.nice}"


def _sandbox(options: UnitOptions, inventory: Inventory, host: str) -> str:
    if not options.sandbox:
        return ""
    paths = (inventory.expand(path, host) for path in ("{state}", *options.writable))
    return _SANDBOXED.format(paths=" ".join(map(_quoted, paths)))


def _quoted(text: str) -> str:
    """One word of a setting, as systemd.unit(5) and systemd.syntax(7) read it."""
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return '"' + escaped.replace("%", "%%") + '"'


def _argument(text: str) -> str:
    """A word of a command line: there variables are expanded too (systemd.service(5))."""
    return _quoted(text).replace("$", "$$")


def _halted_first(inventory: Inventory, host: str) -> str:
    """Has an artifact latch its halt again before it starts, while root's mark of a stop is there.

    An artifact that can't latch where nothing serves starts all the same: its own latch decides.
    """
    settings = settings_of(inventory, host)
    if settings.halt is None:
        return ""
    words = {"current": f"{settings.root}/current", "reason": "stopped", "by": "root"}
    halt = " ".join(_argument(word) for word in settings.halt.filled(**words))
    mark = f"{settings.root}/state/halted"
    return f"""\
# What a stop halted comes up halted, whatever became of its own latch.
ExecStartPre=-/bin/sh -c 'test ! -e "$$0" || exec "$$@"' {mark} {halt}
"""
