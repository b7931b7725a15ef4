"""Which bits this process obeys now. Every process starts with all runtime flags off."""

import secrets
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

OFF: Final = "off"
PROMISED: Final = "promised"
PROVISIONAL: Final = "provisional"
ARMED: Final = "armed"
ALWAYS: Final = "always"
PROMISE_S: Final = 60.0

UNKNOWN_FLAG: Final = 7
RESERVED_FLAG: Final = 8
NOT_ARMED: Final = 9


class FlagRefusedError(Exception):
    """A request about a flag was refused; nothing changed."""

    def __init__(self, rule: str, message: str) -> None:
        super().__init__(message)
        self.rule = rule


@dataclass(slots=True)
class Runtime:
    """Where one runtime flag stands between off and armed."""

    state: str = OFF
    epoch: int = 0
    nonce: str = ""
    until_s: float = 0.0


def check_certificate(certificate: str, nonce: str) -> int:
    """Give the epoch of a certificate that is good here, or refuse.

    No way to verify a signature exists yet, so no certificate is good.
    """
    del certificate, nonce
    raise FlagRefusedError("CERTIFICATE_UNVERIFIED", "this build can't verify certificates yet")


class Flags:
    """The flag table of the build, and what is armed of it."""

    def __init__(self, table: dict[str, Any], commit_s: int) -> None:
        self._commit_s = commit_s
        active = [entry for entry in table["entries"] if entry["state"] == "active"]
        self.digest: str = table["table"]
        self.wire: str = table["wire"]
        self.bits = {str(entry["name"]): int(entry["bit"]) for entry in active}
        self.handlers = {1 << int(entry["bit"]): str(entry["handler"]) for entry in active}
        self.known = sum(1 << bit for bit in self.bits.values())
        reserved = {int(e["bit"]) for e in table["entries"] if e["state"] == "reserved"}
        self.reserved = sum(1 << bit for bit in reserved)
        runtime = {str(e["name"]) for e in active if e["activation"] == "runtime"}
        self._runtime = {name: Runtime() for name in sorted(runtime)}
        self._always = sum(1 << bit for name, bit in self.bits.items() if name not in runtime)
        self.epoch = 0
        self.accepted = self._always
        self.on_change: Callable[[], None] = lambda: None

    def why_not(self, word: int) -> int:
        """Give the reason code for a word that has a bit we don't obey, 0 when it has none."""
        extra = word & ~self.accepted
        if not extra:
            return 0
        if extra & self.reserved:
            return RESERVED_FLAG
        return UNKNOWN_FLAG if extra & ~self.known else NOT_ARMED

    def armed(self) -> list[str]:
        """Name the runtime flags that are obeyed now, sorted."""
        return [n for n, flag in self._runtime.items() if flag.state in (PROVISIONAL, ARMED)]

    def states(self) -> list[dict[str, Any]]:
        """Show every flag."""
        return [
            {
                "name": name,
                "bit": bit,
                "state": self._runtime[name].state if name in self._runtime else ALWAYS,
                "epoch": self._runtime[name].epoch if name in self._runtime else 0,
            }
            for name, bit in sorted(self.bits.items(), key=lambda item: item[1])
        ]

    def _find(self, name: str) -> Runtime:
        if name not in self._runtime:
            raise FlagRefusedError("FLAG_UNKNOWN", f"this build has no runtime flag {name!r}")
        return self._runtime[name]

    def prepare(self, name: str, certificate: str | None, now_s: float) -> dict[str, Any]:
        """Issue a nonce; or, given a certificate over it, promise."""
        flag = self._find(name)
        if flag.state in (PROVISIONAL, ARMED):
            raise FlagRefusedError("FLAG_ARMED", f"{name} is {flag.state} already; disarm it first")
        if certificate is None:
            flag.state, flag.nonce = OFF, secrets.token_hex(32)
            flag.until_s = now_s + PROMISE_S
            return {"nonce": flag.nonce}
        if not flag.nonce or now_s > flag.until_s:
            raise FlagRefusedError("NONCE_EXPIRED", f"ask for a new nonce for {name} first")
        nonce, flag.nonce = flag.nonce, ""  # a nonce is used once, whatever comes of it
        epoch = check_certificate(certificate, nonce)
        if epoch <= self.epoch:
            raise FlagRefusedError("EPOCH_OLD", f"epoch {epoch} is not newer than {self.epoch}")
        flag.state, flag.epoch, flag.until_s = PROMISED, epoch, now_s + PROMISE_S
        return {"promise": epoch}

    def commit(self, name: str, now_s: float) -> dict[str, Any]:
        """Arm for a short while."""
        flag = self._find(name)
        if flag.state != PROMISED or now_s > flag.until_s:
            raise FlagRefusedError("NOT_PROMISED", f"{name} was not prepared (it is {flag.state})")
        flag.state, flag.until_s = PROVISIONAL, now_s + self._commit_s
        self.epoch = max(self.epoch, flag.epoch)
        self._changed()
        return {"provisional_s": self._commit_s}

    def settle(self, name: str, now_s: float) -> dict[str, Any]:
        """Make it last, in time."""
        self.tick(now_s)
        flag = self._find(name)
        if flag.state != PROVISIONAL:
            raise FlagRefusedError("NOT_COMMITTED", f"{name} is {flag.state}: nothing to settle")
        flag.state = ARMED
        return {"armed": self.armed()}

    def disarm(self, name: str) -> dict[str, Any]:
        """Turn off, from any state."""
        flag = self._find(name)
        flag.state, flag.nonce, flag.until_s = OFF, "", 0.0
        self._changed()
        return {"armed": self.armed()}

    def tick(self, now_s: float) -> None:
        """Let a commit that nobody settled fall."""
        for name, flag in self._runtime.items():
            if flag.state == PROVISIONAL and now_s > flag.until_s:
                self.disarm(name)

    def _changed(self) -> None:
        self.accepted = self._always + sum(1 << self.bits[name] for name in self.armed())
        self.on_change()
