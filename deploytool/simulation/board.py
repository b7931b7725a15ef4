"""The flags of a simulated process.

It believes a certificate by ``deploytool.arming.certificate``; its signatures are made up
(``sign``): that OpenSSH's are real is shown by the tests that have a real router.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable
from dataclasses import dataclass, field

from deploytool.arming.certificate import NAMESPACE, Certificate, RouterState, objections
from deploytool.fleet.sealed import unseal
from deploytool.registry.model import FlagEntry, entries_of
from deploytool.release.model import FlagTable
from deploytool.simulation.memory import signing

PROMISE_S = 60.0
COMMIT_S = 5.0


def sign(name: str) -> Callable[[bytes], str]:
    """What stands for ``ssh-keygen -Y sign`` with this person's key."""
    return lambda content: signing.sign(name, content, NAMESPACE)


class BoardRefusal(Exception):
    """The process says no: the rule, and why."""

    def __init__(self, rule: str, text: str) -> None:
        super().__init__(f"refused ({rule}): {text}")


@dataclass
class _State:
    name: str = "off"
    epoch: int = 0
    nonce: str = ""
    until_s: float = 0.0
    since: int | None = None


@dataclass
class Board:
    """What one process makes of its flags. It starts with every runtime flag off."""

    host: str
    fleet: str
    hosts: frozenset[str]
    release: str
    entries: tuple[FlagEntry, ...]
    epoch: int
    """The newest that was ever accepted on this host: whoever starts the process hands it in."""
    states: dict[str, _State] = field(default_factory=dict)
    remember: Callable[[int], None] = field(default=lambda _epoch: None, repr=False)
    """Writes the newest epoch down, or raises ``BoardRefusal``: without it nothing is promised."""

    @staticmethod
    def of(
        flags: FlagTable | None,
        version: str,
        host: str,
        fleet: str,
        hosts: frozenset[str],
        release: str,
        epoch: int,
    ) -> Board:
        """The board of a process that has just started."""
        entries = entries_of(flags, version) if flags else ()
        names = [e.name for e in entries if e.activation == "runtime" and not e.reserved]
        states = {name: _State() for name in names}
        return Board(host, fleet, hosts, release, entries, epoch, states)

    def armed(self, now_s: float) -> list[str]:
        """The flags that are obeyed now."""
        return [n for n, s in sorted(self._at(now_s)) if s.name in {"provisional", "armed"}]

    def _at(self, now_s: float) -> list[tuple[str, _State]]:
        """The states, once what nobody settled in time has lapsed."""
        for state in self.states.values():
            if state.name == "provisional" and now_s > state.until_s:
                state.name = "off"
        return list(self.states.items())

    def observe(self, now_s: float) -> dict[str, object]:
        """What ``observe`` prints."""
        states = dict(self._at(now_s))
        flags = []
        for entry in self.entries:
            if not entry.reserved:
                state = states.get(entry.name, _State("always"))
                said = {"name": entry.name, "bit": entry.bit, "state": state.name}
                flags.append({**said, "epoch": state.epoch, "since": state.since})
        return {"flags": flags, "armed": self.armed(now_s), "epoch": self.epoch}

    def _find(self, name: str, now_s: float) -> _State:
        states = dict(self._at(now_s))
        if name not in states:
            raise BoardRefusal("FLAG_UNKNOWN", f"this build has no runtime flag {name!r}")
        return states[name]

    def nonce(self, name: str, now_s: float) -> dict[str, object]:
        """What ``prepare`` without a certificate prints."""
        state = self._find(name, now_s)
        if state.name in {"provisional", "armed"}:
            raise BoardRefusal("FLAG_ARMED", f"{name} is {state.name} already; disarm it first")
        state.name, state.nonce, state.until_s = "off", secrets.token_hex(32), now_s + PROMISE_S
        return {"nonce": state.nonce, "epoch": self.epoch}

    def promise(
        self, name: str, sealed: bytes, believed: tuple[str, ...], now_s: float, clock: float
    ) -> dict[str, object]:
        """What ``prepare`` with a certificate prints."""
        state = self._find(name, now_s)
        if state.name in {"provisional", "armed"}:
            raise BoardRefusal("FLAG_ARMED", f"{name} is {state.name} already; disarm it first")
        nonce, state.nonce = state.nonce if now_s <= state.until_s else "", ""
        certificate = self._read(sealed, believed)
        meaning = next((e.digest for e in self.entries if e.name == name and not e.reserved), None)
        router = RouterState(
            fleet=self.fleet,
            hosts=self.hosts,
            host=self.host,
            release=self.release,
            flag=name,
            meaning=meaning,
            nonce=nonce,
            epoch=self.epoch,
        )
        if why := objections(certificate, router, clock):
            raise BoardRefusal("CERTIFICATE_REFUSED", "; ".join(why))
        self.remember(certificate.epoch)
        self.epoch = certificate.epoch
        state.name, state.epoch, state.until_s = "promised", certificate.epoch, now_s + PROMISE_S
        return {"promise": certificate.epoch}

    def _read(self, sealed: bytes, believed: tuple[str, ...]) -> Certificate:
        try:
            content, signature = unseal(sealed.decode())
            certificate = Certificate.parse(content)
        except ValueError as error:
            raise BoardRefusal("CERTIFICATE_UNREADABLE", str(error)) from error
        if (name := signing.signer(signature, content, NAMESPACE)) not in believed:
            raise BoardRefusal(
                "CERTIFICATE_SIGNER", f"{name or 'nobody'} may not sign for this host"
            )
        return certificate

    def commit(self, name: str, now_s: float, clock: float) -> dict[str, object]:
        """What ``commit`` prints."""
        state = self._find(name, now_s)
        if state.name != "promised" or now_s > state.until_s:
            raise BoardRefusal("NOT_PROMISED", f"{name} was not prepared (it is {state.name})")
        state.name, state.until_s, state.since = "provisional", now_s + COMMIT_S, int(clock)
        return {"provisional_s": COMMIT_S}

    def settle(self, name: str, now_s: float) -> dict[str, object]:
        """What ``settle`` prints."""
        state = self._find(name, now_s)
        if state.name != "provisional":
            raise BoardRefusal("NOT_COMMITTED", f"{name} is {state.name}: nothing to settle")
        state.name = "armed"
        return {"armed": self.armed(now_s)}

    def disarm(self, name: str, now_s: float, clock: float) -> dict[str, object]:
        """What ``disarm`` prints."""
        state = self._find(name, now_s)
        state.since = state.since if state.name == "off" else int(clock)
        state.name, state.nonce, state.until_s = "off", "", 0.0
        return {"armed": self.armed(now_s)}
