"""One host's lease as its renewer knows it: the newest nonce, and what is left."""

from __future__ import annotations

import json
from dataclasses import replace

from deploytool.agent.requests import Answer, RenewLease, Told
from deploytool.agent.words import is_word
from deploytool.core.text import excerpt
from deploytool.stop.model import Renewal


def _length(value: object) -> float:
    """So long a lease may be, in seconds: what the inventory allows, too."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 3600:
        raise ValueError(f"{value!r:.20} is no length of a lease")
    return float(value)


class Lease:
    """One host's lease as its renewer knows it."""

    def __init__(self, host: str) -> None:
        self.host = host
        self.nonce: str | None = None
        """The newest that was issued; None asks for the first, which prolongs nothing, and voids
        the nonce of whoever renewed before."""
        self.renewal: Renewal | None = None
        self.begun = 0.0
        """When this row of nonces began (``time.monotonic``): it is that of one process."""
        self.pid: int | None = None
        """That process, where the artifact says which."""
        self.taken = ""
        """Who else renews it, in words; then we don't."""
        self.next_at = 0.0
        self.left_s: float | None = None

    @property
    def known(self) -> Renewal | None:
        """The last renewal that could be answered, and whether somebody else goes on with them."""
        if self.taken:
            return replace(self.renewal or Renewal(0.0, 0.0), taken=True)
        return self.renewal

    def request(self) -> RenewLease:
        """The next renewal. It answers the newest nonce, whose arrival was written down."""
        return RenewLease(nonce=self.nonce)

    def learn(self, answer: Answer, now: float) -> str:
        """Takes in the answer to a renewal; in words what is wrong with it, or nothing."""
        if not isinstance(answer, Told):
            return "the answer to a renewal is not understood"
        plain = answer.said.answer if answer.said.code == 0 else answer.said.errors
        try:
            said = json.loads(plain)
            nonce, lease_s = said["nonce"], _length(said["lease_s"])
            if not is_word(nonce):
                raise ValueError(nonce)  # noqa: TRY301 it can't be answered
            self.left_s = _length(said["left_s"])
            self.pid = said["pid"] if type(said.get("pid")) is int else None
        except (ValueError, KeyError, TypeError, RecursionError):
            if "LEASE_TAKEN" in plain:
                self.taken = excerpt(plain)
            elif "LEASE_NONCE" in plain:
                # An answer was lost, or the process is another one: begun anew, at once.
                self.nonce, self.next_at = None, 0.0
            return excerpt(plain)
        self.nonce, self.renewal = nonce, Renewal(now, lease_s)
        return ""
