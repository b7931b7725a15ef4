"""Which bits this process obeys now. Every process starts with all runtime flags off."""

import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

OFF: Final = "off"
PROMISED: Final = "promised"
PROVISIONAL: Final = "provisional"
ARMED: Final = "armed"
ALWAYS: Final = "always"
PROMISE_S: Final = 60.0
STARTED: Final = "this process started with it off, as every process does"

UNKNOWN_FLAG: Final = 7
RESERVED_FLAG: Final = 8
NOT_ARMED: Final = 9


class FlagRefusedError(Exception):
    """A request about a flag was refused; nothing changed."""

    def __init__(self, rule: str, message: str) -> None:
        super().__init__(message)
        self.rule = rule


def boottime() -> float:
    """Seconds on a clock that nobody sets, and that goes on while the machine sleeps."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


@dataclass(slots=True)
class Runtime:
    """Where one runtime flag stands between off and armed, since when (by the wall) and why."""

    since: float
    why: str = STARTED
    state: str = OFF
    epoch: int = 0
    nonce: str = ""
    presented: str = ""
    until_s: float = 0.0


class Flags:
    """The flag table of the build, and what is armed of it.

    `accepted` are the bits that are obeyed; `sure` those of them that are obeyed whatever the time:
    one that is provisional has to be asked for with `why_not`.
    """

    def __init__(
        self, table: dict[str, Any], commit_s: int, clock: Callable[[], float] = boottime
    ) -> None:
        self._commit_s = commit_s
        self._clock = clock
        active = [entry for entry in table["entries"] if entry["state"] == "active"]
        self.digest: str = table["table"]
        self.wire: str = table["wire"]
        self.bits = {str(entry["name"]): int(entry["bit"]) for entry in active}
        self.handlers = {1 << int(entry["bit"]): str(entry["handler"]) for entry in active}
        self.known = sum(1 << bit for bit in self.bits.values())
        reserved = {int(e["bit"]) for e in table["entries"] if e["state"] == "reserved"}
        self.reserved = sum(1 << bit for bit in reserved)
        runtime = {str(e["name"]): e for e in active if e["activation"] == "runtime"}
        self.meanings = {name: str(runtime[name]["digest"]) for name in sorted(runtime)}
        self._runtime = {name: Runtime(time.time()) for name in self.meanings}
        self._always = sum(1 << bit for name, bit in self.bits.items() if name not in runtime)
        self.sure = self.accepted = self._always
        self.on_change: Callable[[], None] = lambda: None

    def why_not(self, word: int) -> int:
        """Give the reason code for a word that has a bit we don't obey, 0 when it has none."""
        if not word & ~self.sure:
            return 0
        if word & self.accepted & ~self.sure:
            self.tick()  # the loop may have been held up past the end of a provisional one
        extra = word & ~self.accepted
        if not extra:
            return 0
        if extra & self.reserved:
            return RESERVED_FLAG
        return UNKNOWN_FLAG if extra & ~self.known else NOT_ARMED

    # -- what is shown -------------------------------------------------------------------------

    @property
    def epoch(self) -> int:
        """Epoch of the certificate that armed what is armed now, 0 when nothing is."""
        return max((self._runtime[name].epoch for name in self.armed()), default=0)

    def armed(self) -> list[str]:
        """Name the runtime flags that are obeyed now, sorted."""
        return [n for n, flag in self._runtime.items() if flag.state in (PROVISIONAL, ARMED)]

    def states(self) -> list[dict[str, Any]]:
        """Show every flag."""
        in_order = sorted(self.bits.items(), key=lambda item: item[1])
        return [{"name": name, "bit": bit, **self._shown(name)} for name, bit in in_order]

    def _shown(self, name: str) -> dict[str, Any]:
        flag = self._runtime.get(name)
        if flag is None:
            return {"state": ALWAYS, "epoch": 0, "since": None, "why": "it is always on"}
        return {
            "state": flag.state,
            "epoch": flag.epoch,
            "since": round(flag.since, 3),
            "why": flag.why,
        }

    # -- from off to armed, and back -----------------------------------------------------------

    def _find(self, name: str) -> Runtime:
        if name not in self._runtime:
            raise FlagRefusedError("FLAG_UNKNOWN", f"this build has no runtime flag {name!r}")
        return self._runtime[name]

    def issue(self, name: str) -> str:
        """Give a nonce for a certificate. An earlier one, and a promise, are void from now on."""
        flag = self._not_armed(name)
        self._move(name, OFF, "a nonce was issued" if flag.state == PROMISED else flag.why)
        flag.nonce, flag.until_s = secrets.token_hex(32), self._clock() + PROMISE_S
        return flag.nonce

    def present(self, name: str) -> str:
        """Take the nonce back for a certificate over it: it is used once, whatever comes of it."""
        flag = self._not_armed(name)
        if not flag.nonce or self._clock() > flag.until_s:
            raise FlagRefusedError("NONCE_EXPIRED", f"ask for a new nonce for {name} first")
        flag.presented, flag.nonce = flag.nonce, ""
        return flag.presented

    def _not_armed(self, name: str) -> Runtime:
        self.tick()
        flag = self._find(name)
        if flag.state in (PROVISIONAL, ARMED):
            raise FlagRefusedError("FLAG_ARMED", f"{name} is {flag.state} already; disarm it first")
        return flag

    def still_presented(self, name: str, nonce: str) -> None:
        """Refuse where the flag was disarmed, or another nonce issued, while nobody could know."""
        if not nonce or self._find(name).presented != nonce:
            raise FlagRefusedError("OVERTAKEN", f"{name} was disarmed, or prepared anew, meanwhile")

    def promise(self, name: str, nonce: str, epoch: int, good_s: float, signer: str) -> None:
        """Promise to commit, if asked within `good_s` seconds."""
        self.still_presented(name, nonce)
        flag = self._move(name, PROMISED, f"epoch {epoch} was certified by {signer}")
        flag.epoch, flag.until_s = epoch, self._clock() + min(good_s, PROMISE_S)

    def commit(self, name: str) -> dict[str, Any]:
        """Arm for a short while."""
        self.tick()
        flag = self._find(name)
        if flag.state != PROMISED:
            raise FlagRefusedError("NOT_PROMISED", f"{name} was not prepared (it is {flag.state})")
        self._move(name, PROVISIONAL, flag.why)
        flag.until_s = self._clock() + self._commit_s
        self._changed()
        return {"provisional_s": self._commit_s}

    def settle(self, name: str) -> dict[str, Any]:
        """Make it last, in time."""
        self.tick()
        flag = self._find(name)
        if flag.state != PROVISIONAL:
            raise FlagRefusedError("NOT_COMMITTED", f"{name} is {flag.state}: nothing to settle")
        self._move(name, ARMED, flag.why)
        self._changed()
        return {"armed": self.armed()}

    def disarm(self, name: str, why: str = "it was disarmed") -> dict[str, Any]:
        """Turn off, from any state."""
        flag = self._find(name)
        self._move(name, OFF, flag.why if flag.state == OFF else why)
        self._changed()
        return {"armed": self.armed()}

    def tick(self) -> None:
        """Let a commit that nobody settled fall, and a promise that nobody called in."""
        now_s = self._clock()
        for name, flag in self._runtime.items():
            if flag.state in (PROMISED, PROVISIONAL) and now_s > flag.until_s:
                what = "settled" if flag.state == PROVISIONAL else "committed"
                self.disarm(name, f"it was not {what} in time, and disarmed by itself")

    def _move(self, name: str, state: str, why: str) -> Runtime:
        """Go to a state; nothing of an earlier attempt is left but, on the way up, its epoch."""
        flag = self._runtime[name]
        if flag.state != state:
            flag.since = time.time()
        flag.state, flag.why, flag.nonce, flag.presented, flag.until_s = state, why, "", "", 0.0
        flag.epoch = 0 if state == OFF else flag.epoch
        return flag

    def _changed(self) -> None:
        armed = {n for n, flag in self._runtime.items() if flag.state == ARMED}
        self.sure = self._always + sum(1 << self.bits[name] for name in armed)
        self.accepted = self._always + sum(1 << self.bits[name] for name in self.armed())
        self.on_change()
