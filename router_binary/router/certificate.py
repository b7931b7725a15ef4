"""Certificates of parity: what one has to say, and why this router doesn't believe one.

The twin of what makes them on the operator's machine; golden files hold the two to one format and
to the same objections. Who signed it is another question, asked of `ssh-keygen`.
"""

import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Final

NAMESPACE: Final = "parity.deploytool"
LIFETIME_S: Final = 60
CLOCK_SKEW_S: Final = 30
MAX_HOSTS: Final = 1024
MAX_FLAGS: Final = 16
MAX_SECOND: Final = 2**40
MAX_EPOCH: Final = 2**53

NAME: Final = re.compile(r"[a-z][a-z0-9_-]{0,31}\Z")
HOST: Final = re.compile(r"[a-z0-9]([a-z0-9.-]{0,61}[a-z0-9])?\Z")
FLAG: Final = re.compile(r"[A-Z][A-Z0-9_]{0,31}\Z")
HEX64: Final = re.compile(r"[0-9a-f]{64}\Z")
NONCE: Final = re.compile(r"[0-9a-f]{32,64}\Z")

Check = Callable[[object], bool]


class BadCertificateError(Exception):
    """It is no certificate, or not one for this router now; says everything that is wrong."""

    def __init__(self, rule: str, why: str) -> None:
        super().__init__(why)
        self.rule = rule


@dataclass(frozen=True, slots=True)
class Own:
    """What the router knows of itself when it is shown a certificate.

    `hosts` are all hosts of the fleet, as its configuration names them. `nonce` is the one that it
    issued and has not seen used, or empty; `epoch` the newest that it ever accepted.
    """

    fleet: str
    hosts: frozenset[str]
    host: str
    release: str
    flag: str
    meaning: str | None
    nonce: str
    epoch: int


def parse(content: bytes) -> dict[str, Any]:
    """Read a certificate from the bytes that were signed.

    Raises BadCertificateError: it is none, or is not in its one spelling.
    """
    try:
        found = json.loads(content)
        text = json.dumps(found, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
        spelt = text.encode() + b"\n"
    except (ValueError, RecursionError) as error:
        raise _bad(f"it is cut, or was never whole: {error}") from error
    if not isinstance(found, dict) or found.keys() != CHECKS.keys():
        raise _bad(f"it must say {', '.join(CHECKS)}, and nothing else")
    wrong = [key for key, good in CHECKS.items() if not good(found[key])]
    if wrong:
        raise _bad(f"what it says can't be: {', '.join(wrong)}")
    if not 0 < found["expires"] - found["issued"] <= LIFETIME_S:
        raise _bad(f"it must expire after it was issued, within {LIFETIME_S} s")
    hosts = found["hosts"].values()
    if len({host["release"] for host in hosts}) != 1:
        raise _bad("its hosts run more than one release: that is no parity")
    if len({host["nonce"] for host in hosts}) != len(hosts):
        raise _bad("two hosts have one nonce: each router issues its own")
    if spelt != content:
        raise _bad("it is not in canonical form (sorted keys, no blanks, one line)")
    return found


def objections(certificate: dict[str, Any], own: Own, now: float) -> tuple[str, ...]:
    """Say why this router must not believe it, signature aside; nothing where it may. All at once.

    `now` in seconds since the epoch.
    """
    return (
        *_of_another_fleet(certificate, own),
        *_of_another_build(certificate, own),
        *_of_another_time(certificate, own, now),
    )


def _of_another_fleet(certificate: dict[str, Any], own: Own) -> Iterator[str]:
    hosts = certificate["hosts"]
    if certificate["fleet"] != own.fleet:
        yield f"it is for fleet {certificate['fleet']}, this is {own.fleet}"
    if hosts.keys() != own.hosts:
        odd = ", ".join(sorted(hosts.keys() ^ own.hosts))
        yield f"it is not over exactly the fleet's hosts: {odd}"
    if own.host not in hosts:
        yield f"it is not for {own.host}"


def _of_another_build(certificate: dict[str, Any], own: Own) -> Iterator[str]:
    entry = certificate["hosts"].get(own.host)
    if entry is not None and entry["nonce"] != own.nonce:
        yield "it is not over the nonce that this router issued: it is a replay"
    if entry is not None and entry["release"] != own.release:
        yield f"it is for release {entry['release'][:12]}, this is {own.release[:12]}"
    if own.meaning is None:
        yield f"this build has no runtime flag {own.flag}"
    elif certificate["flags"].get(own.flag) != own.meaning:
        yield f"this build reads {own.flag} otherwise than was certified"


def _of_another_time(certificate: dict[str, Any], own: Own, now: float) -> Iterator[str]:
    if certificate["epoch"] <= own.epoch:
        yield f"epoch {certificate['epoch']} is not newer than {own.epoch}"
    if now > certificate["expires"]:
        yield f"it expired {now - certificate['expires']:.0f} s ago"
    if now < certificate["issued"] - CLOCK_SKEW_S:
        yield f"it is from the future by {certificate['issued'] - now:.0f} s"


def _bad(why: str) -> BadCertificateError:
    return BadCertificateError("CERTIFICATE_FORM", why)


def _text(pattern: re.Pattern[str]) -> Check:
    return lambda value: isinstance(value, str) and pattern.match(value) is not None


def _number(low: int, high: int) -> Check:
    return lambda value: type(value) is int and low <= value <= high


def _mapping(key: re.Pattern[str], entry: Check, most: int) -> Check:
    def check(value: object) -> bool:
        return (
            isinstance(value, dict)
            and 0 < len(value) <= most
            and all(key.match(name) and entry(inside) for name, inside in value.items())
        )

    return check


def _host(value: object) -> bool:
    return (
        isinstance(value, dict)
        and value.keys() == {"nonce", "release"}
        and _text(NONCE)(value["nonce"])
        and _text(HEX64)(value["release"])
    )


CHECKS: Final[dict[str, Check]] = {
    "epoch": _number(1, MAX_EPOCH),
    "expires": _number(0, MAX_SECOND),
    "flags": _mapping(FLAG, _text(HEX64), MAX_FLAGS),
    "fleet": _text(NAME),
    "hosts": _mapping(HOST, _host, MAX_HOSTS),
    "inventory": _text(HEX64),
    "issued": _number(0, MAX_SECOND),
    "round": _text(NONCE),
    "schema": _number(1, 1),
}
