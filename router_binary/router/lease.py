"""A lease on trading: what nobody renews stops by itself, also when it was frozen or cut off.

A renewal answers a nonce that was issued here, and the lease counts from the *issue* of that
nonce. So a renewal that lay in a buffer renews nothing, and who renews knows the latest instant
at which trading ends: the length of the lease after the last answer that it got. The clock is
CLOCK_BOOTTIME, which goes on while the process is frozen and while the machine sleeps.

A process begins without a lease, whatever the one before it held: a restart trades no longer
than the last renewal allowed.
"""

import secrets
import time
from collections.abc import Callable
from typing import Any, Final

SHORTEST_S: Final = 0.5
LONGEST_S: Final = 3600.0
FIRST: Final = "none"
_SECOND: Final = 1_000_000_000


class LeaseRefusedError(Exception):
    """A renewal was refused; nothing changed."""

    def __init__(self, rule: str, message: str) -> None:
        super().__init__(message)
        self.rule = rule


def boottime_ns() -> int:
    """Give nanoseconds since boot, suspended time included."""
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME)


class Lease:
    """How long this process may trade yet. One of 0 seconds is no lease: it always holds."""

    __slots__ = ("_clock", "_epoch", "_held", "_issued_ns", "_nonce", "_until_ns", "lease_s")

    def __init__(self, lease_s: float = 0.0, clock: Callable[[], int] = boottime_ns) -> None:
        if lease_s and not SHORTEST_S <= lease_s <= LONGEST_S:
            raise ValueError(f"a lease has {SHORTEST_S} to {LONGEST_S:.0f} seconds, or 0 for none")
        self.lease_s = lease_s
        self._clock = clock
        self._epoch = int(time.time())  # grows whenever somebody begins to renew: the latest may
        self._nonce = ""
        self._issued_ns = self._until_ns = 0
        self._held = False

    def holds(self) -> bool:
        """Whether an order may leave at this very moment."""
        return not self.lease_s or self._clock() < self._until_ns

    def lapsed(self) -> bool:
        """Whether a lease that was held is over; says so once."""
        over = self._held and not self.holds()
        self._held = self._held and not over
        return over

    def left_s(self) -> float:
        """Give the seconds for which it holds yet, 0 when it doesn't."""
        return max(0, self._until_ns - self._clock()) / _SECOND

    def shown(self) -> dict[str, float] | None:
        """Give what `status` shows; None where there is no lease."""
        if not self.lease_s:
            return None
        return {"lease_s": self.lease_s, "left_s": round(self.left_s(), 3)}

    def renew(self, nonce: str) -> dict[str, Any]:
        """Prolong it by the answer to the nonce issued last, and issue the next one.

        `none` instead of a nonce begins to renew: it prolongs nothing, and voids the nonce of
        whoever renewed before. Raises LeaseRefusedError.
        """
        if not self.lease_s:
            raise LeaseRefusedError("LEASE_OFF", "this router was started without a lease")
        if nonce == FIRST:
            self._epoch += 1
        else:
            self._check(nonce)
            self._until_ns = self._issued_ns + int(self.lease_s * _SECOND)
            self._held = self._held or self.holds()
        self._nonce = f"{self._epoch:08x}{secrets.token_hex(12)}"
        self._issued_ns = self._clock()
        return {
            "nonce": self._nonce,
            "epoch": self._epoch,
            "left_s": round(self.left_s(), 3),
            "lease_s": self.lease_s,
        }

    def _check(self, nonce: str) -> None:
        if self._nonce and secrets.compare_digest(nonce.encode(), self._nonce.encode()):
            return
        if self._nonce and nonce[:8] != self._nonce[:8]:
            raise LeaseRefusedError(
                "LEASE_TAKEN",
                f"somebody else began to renew this lease (epoch {self._epoch}): one does, or none",
            )
        raise LeaseRefusedError(
            "LEASE_NONCE", f"that is not the nonce issued last; begin anew with {FIRST!r}"
        )
