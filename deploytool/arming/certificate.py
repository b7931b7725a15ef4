"""Certificates of parity: what one says, its one spelling in bytes, and who may believe it. Pure.

A certificate is made only of a round in which every declared host was a MATCH. It is signed over
a nonce that each router issued for it, so that it is good once, on the routers that were asked,
for a short while. Signing and verifying is OpenSSH's work (``ssh-keygen -Y``), not ours; what the
signature covers is ``Certificate.canonical()``, and nothing else.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import Field, StringConstraints, model_validator

from deploytool.fleet.fields import Frozen, HostName, Name
from deploytool.fleet.model import Digest, Inventory
from deploytool.parity.model import Parity, Round
from deploytool.registry.model import FlagName, canonical
from deploytool.release.model import Hex64

NAMESPACE = "parity.deploytool"
"""OpenSSH's signature namespace: a signature made for anything else is not one of ours."""
LIFETIME_S = 60
"""From issue to expiry; a router's promise lasts no longer."""
CLOCK_SKEW_S = 30
"""How far two honest clocks may be apart: what evidence rounds allow too."""

Nonce = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{32,64}$")]
Second = Annotated[int, Field(ge=0, le=2**40)]
Epoch = Annotated[int, Field(ge=1, le=2**53)]


class CertifiedHost(Frozen):
    """One host of the fleet: what it was seen to run, and the nonce that its router issued."""

    release: Hex64
    nonce: Nonce


class Certificate(Frozen):
    """This fleet, these hosts, this release on each, these meanings; then, until then."""

    schema_: Annotated[Literal[1], Field(alias="schema")] = 1
    fleet: Name
    inventory: Hex64
    hosts: Annotated[dict[HostName, CertifiedHost], Field(min_length=1, max_length=1024)]
    flags: Annotated[dict[FlagName, Hex64], Field(min_length=1, max_length=16)]
    round: Nonce
    issued: Second
    expires: Second
    epoch: Epoch

    @model_validator(mode="after")
    def _sound(self) -> Certificate:
        if not 0 < self.expires - self.issued <= LIFETIME_S:
            raise ValueError(f"it must expire after it was issued, within {LIFETIME_S} s")
        if len({host.release for host in self.hosts.values()}) != 1:
            raise ValueError("its hosts run more than one release: that is no parity")
        if len({host.nonce for host in self.hosts.values()}) != len(self.hosts):
            raise ValueError("two hosts have one nonce: each router issues its own")
        return self

    @property
    def release(self) -> Digest:
        """The one release that every host runs."""
        return Digest(next(iter(self.hosts.values())).release)

    def canonical(self) -> bytes:
        """The bytes that are signed: canonical JSON, one line."""
        return canonical(self.model_dump(mode="json", by_alias=True)) + b"\n"

    @staticmethod
    def parse(content: bytes) -> Certificate:
        """A certificate from the bytes that were signed.

        Raises:
            ValueError: it is none, or is not in its one spelling.
        """
        found = Certificate.model_validate_json(content)
        if found.canonical() != content:
            raise ValueError("it is not in canonical form (sorted keys, no blanks, one line)")
        return found


def next_epoch(seen: Iterable[int], now: int) -> int:
    """An epoch that is newer than every one that any host showed.

    It is at least the time in seconds, so that it grows from one operator's machine to the next
    even when every router was restarted in between and remembers none.
    """
    return max(now, *(epoch + 1 for epoch in seen), 1)


def certify(
    inventory: Inventory,
    taken: Round,
    nonces: Mapping[str, str],
    flags: Mapping[str, str],
    *,
    nonce: str,
    now: int,
    epoch: int,
) -> Certificate:
    """The certificate of a round; there is none without parity on exactly the declared hosts.

    Raises:
        ValueError: a host is not a MATCH, is missing or was not declared, or gave no nonce.
    """
    hosts = {verdict.host: verdict.release for verdict in taken.hosts}
    if len(hosts) != len(taken.hosts) or tuple(sorted(hosts)) != inventory.names:
        raise ValueError("the round is not over exactly the declared hosts")
    if taken.parity is not Parity.PARITY or set(hosts.values()) != {taken.release}:
        raise ValueError("the round did not show parity")
    if set(nonces) != set(hosts):
        raise ValueError("not every router has issued a nonce, or one that was not asked has")
    return Certificate(
        fleet=inventory.fleet,
        inventory=inventory.digest(),
        hosts={
            host: CertifiedHost(release=str(taken.release), nonce=nonces[host]) for host in hosts
        },
        flags=dict(flags),
        round=nonce,
        issued=now,
        expires=now + LIFETIME_S,
        epoch=epoch,
    )


@dataclass(frozen=True)
class RouterState:
    """What a router knows of itself when it is shown a certificate.

    ``hosts`` are all hosts of the fleet, as its own configuration names them; ``epoch`` is the
    newest that it ever accepted; ``nonce`` the one that it issued and has not seen used, or empty;
    ``meaning`` is None where its build has no such runtime flag.
    """

    fleet: str
    hosts: frozenset[str]
    host: str
    release: str
    flag: str
    meaning: str | None
    nonce: str
    epoch: int


def objections(certificate: Certificate, router: RouterState, now: float) -> tuple[str, ...]:
    """Why this router must not believe it, signature aside; empty where it may. All at once.

    ``now`` in seconds since the epoch. A router refuses for the same reasons in code of its own;
    tests/contract/golden/certificates.json holds the two together.
    """
    return (
        *_of_another_fleet(certificate, router),
        *_of_another_build(certificate, router),
        *_of_another_time(certificate, router, now),
    )


def _of_another_fleet(certificate: Certificate, router: RouterState) -> Iterator[str]:
    if certificate.fleet != router.fleet:
        yield f"it is for fleet {certificate.fleet}, this is {router.fleet}"
    if certificate.hosts.keys() != router.hosts:
        odd = ", ".join(sorted(certificate.hosts.keys() ^ router.hosts))
        yield f"it is not over exactly the fleet's hosts: {odd}"
    if router.host not in certificate.hosts:
        yield f"it is not for {router.host}"


def _of_another_build(certificate: Certificate, router: RouterState) -> Iterator[str]:
    own = certificate.hosts.get(router.host)
    if own is not None and own.nonce != router.nonce:
        yield "it is not over the nonce that this router issued: it is a replay"
    if own is not None and own.release != router.release:
        yield f"it is for release {own.release[:12]}, this is {router.release[:12]}"
    if router.meaning is None:
        yield f"this build has no runtime flag {router.flag}"
    elif certificate.flags.get(router.flag) != router.meaning:
        yield f"this build reads {router.flag} otherwise than was certified"


def _of_another_time(certificate: Certificate, router: RouterState, now: float) -> Iterator[str]:
    if certificate.epoch <= router.epoch:
        yield f"epoch {certificate.epoch} is not newer than {router.epoch}"
    if now > certificate.expires:
        yield f"it expired {now - certificate.expires:.0f} s ago"
    if now < certificate.issued - CLOCK_SKEW_S:
        yield f"it is from the future by {certificate.issued - now:.0f} s"
