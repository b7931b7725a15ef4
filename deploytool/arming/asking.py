"""What arming and disarming ask beside the two phases: flags in use, the senders, idle hosts."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping

from deploytool.arming.checks import Census, SenderObservation
from deploytool.arming.hosts import FlagHosts
from deploytool.arming.model import ON, Shown
from deploytool.arming.senders import Outside, of_now
from deploytool.errors import FaultKind, HostFault
from deploytool.fleet.fanout import fanout
from deploytool.fleet.host import Host
from deploytool.fleet.model import Inventory
from deploytool.parity.model import Evidence
from deploytool.parity.round import probe_request, take_round

_OUTSIDE_MORE_S = 5.0
_ANSWERED = frozenset({FaultKind.PROTOCOL, FaultKind.REFUSED})
"""A host answered that has these faults; it may be that nothing runs there."""


def in_use(
    inventory: Inventory, hosts: Mapping[str, Host], outside: Outside
) -> dict[str, frozenset[int]]:
    """The runtime flags that any host shows armed, or whose bit the senders show in use.

    By their names, with every bit that any host shows each to be. What can't be seen is not in it:
    it will stand in the way of whatever comes next.
    """
    routers = FlagHosts(hosts, inventory.ssh.command_timeout_s, lambda _host, _text, _fault: None)
    shown = [item for item in routers.observe().values() if isinstance(item, Shown)]
    try:
        bits = of_now(outside.observe(), time.time()).bits
    except HostFault:
        bits = frozenset()
    states = [flag for item in shown for flag in item.flags if flag.state != "always"]
    names = sorted({flag.name for flag in states if flag.state in ON or flag.bit in bits})
    return {n: frozenset(flag.bit for flag in states if flag.name == n) for n in names}


def ask_outside(
    inventory: Inventory, outside: Outside
) -> Callable[[], tuple[Census | str, SenderObservation | str]]:
    """Asks senders and census while the hosts are asked; gives how to wait for the answers."""
    told: dict[str, Census | SenderObservation | HostFault] = {}
    commands = (inventory.gateway, inventory.membership)
    patience_s = max((c.timeout_s for c in commands if c), default=0.0) + _OUTSIDE_MORE_S
    jobs: dict[str, Callable[[], Census | SenderObservation]] = {
        "census": outside.census,
        "gateway": outside.observe,
    }

    def work() -> None:
        told.update(fanout(jobs, deadline_s=patience_s))

    asking = threading.Thread(target=work, name="outside", daemon=True)
    asking.start()

    def wait() -> tuple[Census | str, SenderObservation | str]:
        asking.join(patience_s + _OUTSIDE_MORE_S)
        census, gateway = told.get("census"), told.get("gateway")
        return (
            census if isinstance(census, Census) else str(census or "no answer"),
            gateway if isinstance(gateway, SenderObservation) else str(gateway or "no answer"),
        )

    return wait


def idle(
    inventory: Inventory, hosts: Mapping[str, Host], seen: Mapping[str, Shown | HostFault]
) -> tuple[str, ...]:
    """Of the hosts whose artifact can't be asked, those on which nothing runs, by the kernel."""
    mute = {
        host: hosts[host]
        for host, item in seen.items()
        if isinstance(item, HostFault) and item.kind in _ANSWERED
    }
    if not mute:
        return ()
    answers = take_round(mute, probe_request(disk=False), inventory.ssh.command_timeout_s)
    return tuple(h for h, item in answers.items() if isinstance(item, Evidence) and item.idle)
