"""What has to be shown before a flag is armed here: a certificate of parity for this router, now.

Nobody arms by hand. A certificate is over a nonce that this process issued, says what this router
can check of itself, is newer than any before, and was signed by an operator whom root put among
the signers.
"""

import time
from dataclasses import dataclass
from typing import Any

from router.certificate import NAMESPACE, BadCertificateError, Own, objections, parse
from router.epochs import Epochs
from router.flags import FlagRefusedError, Flags
from router.pending import Answer, Made, Pending
from router.signatures import Signatures, unseal


@dataclass(frozen=True, slots=True)
class Identity:
    """What this router is, as long as its process runs."""

    fleet: str
    hosts: frozenset[str]
    host: str
    release: str


class Arming:
    """Every request about a flag."""

    def __init__(self, own: Identity, flags: Flags, epochs: Epochs, signatures: Signatures) -> None:
        self._identity = own
        self._flags = flags
        self._epochs = epochs
        self._signatures = signatures

    def show(self) -> Answer:
        """Tell where every flag stands; what fell by itself has fallen."""
        self._flags.tick()
        return {
            "flags": self._flags.states(),
            "armed": self._flags.armed(),
            "epoch": self._epochs.shown,
        }

    def prepare(self, name: str, sealed: str | None) -> Made:
        """Issue a nonce; or, given a certificate over it, promise."""
        if sealed is None:
            newest = self._epochs.newest
            return {"nonce": self._flags.issue(name), "epoch": newest}
        nonce = self._flags.present(name)
        content, signature = unseal(sealed)
        certificate = parse(content)
        self._hold(certificate, name, nonce)
        pending = Pending()
        self._signatures.check(
            content,
            signature,
            NAMESPACE,
            lambda signer: pending.finish(lambda: self._signed(name, nonce, certificate, signer())),
        )
        return pending

    def _signed(self, name: str, nonce: str, certificate: dict[str, Any], signer: str) -> Made:
        # Time has passed, and others may have asked for other things.
        self._flags.still_presented(name, nonce)
        self._hold(certificate, name, nonce)
        pending = Pending()

        def written(trouble: str) -> None:
            pending.finish(lambda: self._promise(name, nonce, certificate, signer, trouble))

        self._epochs.write(certificate["epoch"], written)
        return pending

    def _promise(
        self, name: str, nonce: str, certificate: dict[str, Any], signer: str, trouble: str
    ) -> Answer:
        if trouble:
            raise FlagRefusedError("EPOCH_NOT_WRITTEN", trouble)
        good_s = certificate["expires"] - time.time()
        if good_s < 0:
            raise BadCertificateError("CERTIFICATE", f"it expired {-good_s:.0f} s ago")
        self._flags.promise(name, nonce, certificate["epoch"], good_s, signer)
        return {"promise": certificate["epoch"]}

    def _hold(self, certificate: dict[str, Any], name: str, nonce: str) -> None:
        """Hold the certificate against what this router knows of itself."""
        if not self._identity.fleet:
            raise FlagRefusedError("FLEET", "this router was started without --fleet")
        own = Own(
            fleet=self._identity.fleet,
            hosts=self._identity.hosts,
            host=self._identity.host,
            release=self._identity.release,
            flag=name,
            meaning=self._flags.meanings.get(name),
            nonce=nonce,
            epoch=self._epochs.newest,
        )
        found = objections(certificate, own, time.time())
        if found:
            raise BadCertificateError("CERTIFICATE", "; ".join(found))

    def commit(self, name: str) -> Answer:
        """Arm what was promised, for a short while."""
        return self._flags.commit(name)

    def settle(self, name: str) -> Answer:
        """Make it last."""
        return self._flags.settle(name)

    def disarm(self, name: str) -> Answer:
        """Turn it off: needs nothing, and always works."""
        return self._flags.disarm(name)
