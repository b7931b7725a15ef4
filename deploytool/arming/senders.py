"""Those who set bits in messages, and those who know who serves: by the inventory's commands."""

from __future__ import annotations

import re
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

from deploytool.arming.checks import AGE_AT_MOST_S, Census, SenderObservation
from deploytool.errors import FaultKind, HostFault
from deploytool.fleet import model
from deploytool.fleet.fields import Argv
from deploytool.fleet.local_commands import ask, ask_json, moment
from deploytool.fleet.model import Inventory
from deploytool.registry.model import BITS

_SHA = re.compile(r"[0-9a-f]{64}")


class Outside(Protocol):
    """All that arming asks beside the hosts, and whom it tells. Every call may raise HostFault."""

    def use(self, flag: str, bit: int, release: str) -> None:
        """Tells every sender to use the bit, on sessions whose login showed this release."""

    def withdraw(self, flag: str, bit: int | None) -> None:
        """Tells every sender to use it no more; ``bit`` None: no host could say which it is."""

    def observe(self) -> SenderObservation:
        """What the senders do now."""

    def census(self) -> Census:
        """Who takes traffic now."""


class SenderCommands:
    """The inventory's own: ``gateway`` and ``membership``, run in its ``folder``."""

    def __init__(self, inventory: Inventory, folder: Path) -> None:
        self._inventory = inventory
        self._folder = folder

    def use(self, flag: str, bit: int, release: str) -> None:
        """See ``Outside.use``.

        Raises:
            HostFault: the inventory names no gateway, or it did not do it.
        """
        gateway = self._gateway()
        self._tell(gateway.use, {"flag": flag, "bit": str(bit), "release": release})

    def withdraw(self, flag: str, bit: int | None) -> None:
        """See ``Outside.withdraw``.

        Raises:
            HostFault: the inventory names no gateway, or it did not do it.
        """
        gateway = self._gateway()
        if bit is None and any("{bit}" in word for word in gateway.withdraw):
            text = f"no host could say which bit {flag} is"
            raise HostFault(FaultKind.UNREACHABLE, text)
        self._tell(gateway.withdraw, {"flag": flag, "bit": str(bit)})

    def _tell(self, argv: Argv, words: Mapping[str, str]) -> None:
        gateway = self._gateway()
        ask(argv, {**words, "fleet": self._inventory.fleet}, self._folder, gateway.timeout_s)

    def observe(self) -> SenderObservation:
        """See ``Outside.observe``.

        Raises:
            HostFault: the inventory names no gateway, or what it says can't be read.
        """
        gateway = self._gateway()
        return read_senders(self._asked(gateway.observe, gateway.timeout_s))

    def census(self) -> Census:
        """See ``Outside.census``.

        Raises:
            HostFault: the inventory names no membership, or what it says can't be read.
        """
        membership = self._inventory.membership
        if membership is None:
            raise HostFault(FaultKind.UNREACHABLE, "the inventory names no 'membership'")
        return read_census(self._asked(membership.command, membership.timeout_s))

    def _gateway(self) -> model.GatewayConfig:
        if self._inventory.gateway is None:
            raise HostFault(FaultKind.UNREACHABLE, "the inventory names no 'gateway'")
        return self._inventory.gateway

    def _asked(self, argv: Argv, timeout_s: float) -> dict[str, object]:
        return ask_json(argv, {"fleet": self._inventory.fleet}, self._folder, timeout_s)

    def bits_in_use(self) -> frozenset[int]:
        """The bits that senders use, as ``compatibility.Senders`` asks for them.

        Raises:
            HostFault: it could not be observed, or what they showed is not of now.
        """
        return of_now(self.observe(), time.time()).bits


def senders_of(inventory: Inventory, folder: Path) -> SenderCommands | None:
    """Those whom a rollout asks which bits are in use; None where the inventory names nobody.

    ``folder`` is the inventory's own.
    """
    return None if inventory.gateway is None else SenderCommands(inventory, folder)


def of_now(shown: SenderObservation, now: float) -> SenderObservation:
    """What the senders showed, where that is what they do now; ``now`` in seconds since the epoch.

    Raises:
        HostFault: it is older than what was seen may be, or from the future.
    """
    if not abs(now - shown.taken) <= AGE_AT_MOST_S:  # a time that is no number never passes
        raise HostFault(FaultKind.PROTOCOL, "what the senders showed is not of now")
    return shown


def read_senders(said: Mapping[str, object]) -> SenderObservation:
    """What a gateway's ``observe`` says.

    Raises:
        HostFault: it is not what it has to be.
    """
    bits, sessions = said.get("bits"), said.get("sessions")
    if not isinstance(bits, list) or not all(type(b) is int and 0 <= b < BITS for b in bits):
        raise HostFault(FaultKind.PROTOCOL, "'bits' is no list of bits from 0 to 15")
    if not isinstance(sessions, dict):
        raise HostFault(FaultKind.PROTOCOL, "'sessions' is no object of hosts")
    for host, shown in sessions.items():
        if not isinstance(shown, list) or not all(_SHA.fullmatch(str(item)) for item in shown):
            raise HostFault(FaultKind.PROTOCOL, f"'sessions' of {host} is no list of releases")
    found = {host: frozenset(shown) for host, shown in sessions.items()}
    return SenderObservation(moment(said), frozenset(bits), found)


def read_census(said: Mapping[str, object]) -> Census:
    """What ``membership`` says.

    Raises:
        HostFault: it is not what it has to be.
    """
    serving = said.get("serving")
    if not isinstance(serving, list) or not all(isinstance(host, str) for host in serving):
        raise HostFault(FaultKind.PROTOCOL, "'serving' is no list of hosts")
    if len(set(serving)) != len(serving):
        raise HostFault(FaultKind.PROTOCOL, "'serving' names a host twice")
    return Census(moment(said), frozenset(serving))
