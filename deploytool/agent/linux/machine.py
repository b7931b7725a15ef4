"""What makes this host itself, and its clocks."""

from __future__ import annotations

import errno
import os
import time

from deploytool.agent.linux.opening import read_regular
from deploytool.agent.linux.programs import program
from deploytool.agent.port import Printed
from deploytool.agent.words import DOCUMENT_AT_MOST

_ID_AT_MOST = 4096
RULES_S = 5.0
_RULES = (
    ("nft", ("nft", "-j", "list", "ruleset")),
    ("iptables", ("iptables-save", "-t", "nat")),
    ("iptables", ("ip6tables-save", "-t", "nat")),
    ("iptables", ("iptables-legacy-save", "-t", "nat")),
    ("iptables", ("ip6tables-legacy-save", "-t", "nat")),
)
"""An iptables that writes to nftables is shown by nft as rules whose targets it can't name."""


class LinuxMachine:
    """This host."""

    def machine_id(self) -> str:
        """machine-id(5)."""
        found = _line("/etc/machine-id")
        if not found:
            raise OSError(errno.ENODATA, "it names no machine", "/etc/machine-id")
        return found

    def boot_id(self) -> str:
        """Differs from boot to boot."""
        return _line("/proc/sys/kernel/random/boot_id")

    def now(self) -> float:
        """Seconds since the epoch, as this host believes."""
        return time.time()

    def uptime(self) -> float:
        """Seconds on a clock that is never set."""
        return time.clock_gettime(time.CLOCK_BOOTTIME)

    def age(self, start: int) -> float:
        """How long ago that was, in seconds. ``start``: in clock ticks since boot."""
        return max(0.0, self.uptime() - start / os.sysconf("SC_CLK_TCK"))

    def sleep(self, seconds: float) -> None:
        """Waits."""
        time.sleep(seconds)

    def account(self, name: str | None) -> int | None:
        """An account's number, of None the agent's own; None: there is no such account."""
        if name is None:
            return os.geteuid()
        from deploytool.agent.linux.aside import account

        return account(name)

    def has_program(self, name: str) -> bool:
        """Whether it can be run by this name."""
        return program(name) is not None

    def packet_rules(self) -> tuple[Printed, ...]:
        """What each tool that lists packet rules prints; empty: none is on this host."""
        from deploytool.agent.linux.running import run

        found = []
        for name, argv in _RULES:
            if program(argv[0]) is None:
                continue
            ended = run(argv, deadline_s=RULES_S, output_at_most=DOCUMENT_AT_MOST)
            text = ended.output.decode("utf-8", "replace") if ended.code == 0 else None
            found.append(Printed(program=name, text=text))
        return tuple(found)

    def draft(self) -> str:
        """A word that no other run of the agent on this host has: for names of drafts."""
        return f"{os.getpid()}-{os.urandom(4).hex()}"


def _line(path: str) -> str:
    return read_regular(path, _ID_AT_MOST).decode("ascii", "replace").strip()
