"""A request to trade again: asked for by one person, signed by a second, and good for one latch.

It is a line of JSON in its one spelling, with OpenSSH's armoured signature under it. Who signed is
found out elsewhere (`signatures`); what the request must say to be for this router and this latch
is here.
"""

import json
import os
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from router.latch import ResumeRefusedError
from router.pending import Answer, Pending
from router.signatures import unseal

if TYPE_CHECKING:
    from router.engine import Engine
    from router.signatures import Signatures

NAMESPACE: Final = "start.deploytool"
LIFETIME_S: Final = 3600
CLOCK_SKEW_S: Final = 30
MAX_TEXT: Final = 1000


@dataclass(frozen=True, slots=True)
class Request:
    """Who asks, for which host of which fleet, to release which latch, why, and until when.

    ``stop`` names the stop that the host showed. Only the host knows it, and its helper checks it.
    """

    by: str
    host: str
    fleet: str
    latch: str
    reason: str
    issued: int
    expires: int
    stop: str

    def canonical(self) -> bytes:
        """Give the bytes that are signed: sorted keys, no blanks, one line."""
        text = json.dumps(asdict(self), sort_keys=True, separators=(",", ":"), ensure_ascii=False)
        return text.encode("utf-8", "replace") + b"\n"


def parse(content: bytes) -> Request:
    """Read what was signed. Raises ResumeRefusedError where it is not exactly a request."""
    try:
        found = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise ResumeRefusedError("FORM", f"the request is no JSON: {error}") from error
    kinds = Request.__annotations__
    if not isinstance(found, dict) or set(found) != set(kinds):
        raise ResumeRefusedError("FORM", f"a request has exactly {', '.join(sorted(kinds))}")
    for key, kind in kinds.items():
        value = found[key]
        if type(value) is not kind or (kind is str and not 0 < len(value) <= MAX_TEXT):
            raise ResumeRefusedError("FORM", f"{key} is not what a request has there")
    request = Request(**found)
    if request.canonical() != content:
        raise ResumeRefusedError("FORM", "the request is not in its one spelling")
    if not 0 < request.expires - request.issued <= LIFETIME_S:
        raise ResumeRefusedError("FORM", f"a request is good for {LIFETIME_S} s at most")
    return request


def check(request: Request, host: str, fleet: str, latch_id: str | None, now: float) -> None:
    """Refuse a request that isn't for this router, its latch and this moment."""
    if latch_id is None:
        raise ResumeRefusedError("LATCH", "nothing is latched here")
    if request.latch != latch_id:
        raise ResumeRefusedError("LATCH", f"it is for latch {request.latch}, this is {latch_id}")
    if request.host != host:
        raise ResumeRefusedError("HOST", f"it is for {request.host}, this is {host}")
    if request.fleet != fleet:
        raise ResumeRefusedError("FLEET", f"it is for fleet {request.fleet}, this is {fleet!r}")
    if now > request.expires:
        raise ResumeRefusedError("EXPIRED", f"it expired {now - request.expires:.0f} s ago")
    if now < request.issued - CLOCK_SKEW_S:
        early = request.issued - now
        raise ResumeRefusedError("FUTURE", f"it was issued {early:.0f} s from now, by this clock")


def check_people(request: Request, signer: str) -> None:
    """Refuse where the one who asked confirmed it as well."""
    if request.by.casefold() == signer.casefold():
        raise ResumeRefusedError(
            "SECOND_PERSON", f"{signer} asked for it and signed it: a second person must sign"
        )


def begin(
    engine: "Engine", signatures: "Signatures", host: str, fleet: str, folder: Path, sealed: str
) -> Pending:
    """Check all but the signature, start to check that, and release the latch if all is well."""
    content, signature = unseal(sealed)
    request = parse(content)
    check(request, host, fleet, engine.latch.latch_id, time.time())
    if not signatures.knows(request.by):
        raise ResumeRefusedError("SIGNATURE", f"{request.by} who asks is none of the signers")
    engine.check_cause(time.monotonic())
    pending = Pending()

    def let_go(signer: str) -> Answer:
        # Once more: the latch may be another one by now, and its cause may have come back.
        check(request, host, fleet, engine.latch.latch_id, time.time())
        check_people(request, signer)
        engine.check_cause(time.monotonic())
        keep(folder, request.latch, sealed)
        engine.resume(request.latch, time.monotonic())
        return {"trading_state": engine.latch.state, "by": request.by, "confirmed_by": signer}

    signatures.check(
        content, signature, NAMESPACE, lambda signer: pending.finish(lambda: let_go(signer()))
    )
    return pending


def keep(folder: Path, latch_id: str, sealed: str) -> None:
    """Write the signed request down, so that who released what can be proven later.

    Raises ResumeRefusedError where that fails: nothing is released that leaves no trace.
    """
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC
    try:
        descriptor = os.open(folder / f"released-{latch_id}", flags, 0o640)
        try:
            written = os.write(descriptor, sealed.encode())
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    except OSError as error:
        raise ResumeRefusedError("RECORD", f"it can't be written down: {error}") from error
    if written != len(sealed.encode()):
        raise ResumeRefusedError("RECORD", "it can't be written down: the disk is full")
