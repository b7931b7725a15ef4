"""Flags, what they mean, and registries of them: frozen values. Pure.

The flag word has 16 bits. A bit and a name are used once, for ever: what is retired stays as
reserved. Two builds read a bit alike only if the *meaning digest* is the same in both; it is
computed in one way wherever it is computed, byte for byte.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, StringConstraints, model_validator

from deploytool.fleet.fields import Frozen
from deploytool.fleet.model import FLAG_NAME
from deploytool.release.model import FlagTable

BITS = 16
MEANING_KEYS = ("name", "bit", "meaning", "handler", "activation", "requires")
"""What a flag does is in these; who owns it, and since when, may change freely."""


def _words(text: str) -> str:
    """``text`` with single blanks between its words, as it is digested."""
    text = " ".join(text.split())
    if not text:
        raise ValueError("must not be empty")
    if not text.isprintable():
        raise ValueError("must not contain control characters")
    return text


Text = Annotated[str, AfterValidator(_words)]
Bit = Annotated[int, Field(ge=0, lt=BITS)]
FlagName = Annotated[str, StringConstraints(pattern=FLAG_NAME)]
Handler = Annotated[
    str, StringConstraints(pattern=r"^[A-Za-z_][A-Za-z0-9_.]*:[A-Za-z_][A-Za-z0-9_]*$")
]


class Flag(Frozen):
    """A bit that today's build obeys. ``activation`` runtime: only while it is armed."""

    name: FlagName
    bit: Bit
    meaning: Text
    handler: Handler
    since: Text
    owner: Text
    activation: Literal["always", "runtime"]
    requires: tuple[Literal["parity"], ...]

    @model_validator(mode="after")
    def _armed_with_parity_only(self) -> Flag:
        wants = ("parity",) if self.activation == "runtime" else ()
        if self.requires != wants:
            raise ValueError(
                f"activation {self.activation} wants requires: [{', '.join(wants)}], "
                f"found [{', '.join(self.requires)}]"
            )
        return self


class Reserved(Frozen):
    """A bit and a name that no build may use again."""

    bit: Bit
    name: FlagName
    why: Text
    when: Text


class Registry(Frozen):
    """What each bit means, in the words of those who build it."""

    schema_: Annotated[Literal[1], Field(alias="schema")]
    flags: tuple[Flag, ...]
    reserved: tuple[Reserved, ...]


@dataclass(frozen=True)
class FlagEntry:
    """What one source says of one bit: today's registry, an old one, or a build's flag table.

    ``place`` is where it says so, in words that a person finds it by.
    """

    bit: int
    name: str
    reserved: bool
    digest: str
    place: str
    meaning: str = ""
    handler: str = ""
    activation: str = ""

    @property
    def content(self) -> tuple[int, str, bool, str]:
        """What it says, wherever it says so."""
        return self.bit, self.name, self.reserved, self.digest

    def __str__(self) -> str:
        return f"{self.name} on bit {self.bit}"


def canonical(value: object) -> bytes:
    """The one spelling of a value: sorted keys, no blanks, UTF-8."""
    text = json.dumps(
        value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False
    )
    return text.encode("utf-8")


def digest(value: object) -> str:
    """SHA-256 of the canonical spelling."""
    return hashlib.sha256(canonical(value)).hexdigest()


def entry(said: Mapping[str, object], place: str, *, reserved: bool) -> FlagEntry:
    """What ``said`` means, by whatever version of the format it was written.

    Only what the rules need has to be there, so that what was valid once stays readable.

    Raises:
        ValueError: it has no bit of the word, no name, or what can't be digested.
    """
    bit, name = said.get("bit"), said.get("name")
    if type(bit) is not int or not 0 <= bit < BITS:
        raise ValueError(f"bit must be a whole number from 0 to {BITS - 1}, found {bit!r}")
    if not isinstance(name, str) or not name.strip():
        raise ValueError(f"name must be a text that isn't empty, found {name!r}")
    plain = {k: " ".join(v.split()) if isinstance(v, str) else v for k, v in said.items()}
    keys = ("name", "bit") if reserved else MEANING_KEYS
    try:
        digested = digest({key: plain.get(key) for key in keys})
    except (TypeError, ValueError) as error:
        raise ValueError(f"{name} can't be digested: {error}") from error
    words = {} if reserved else {k: str(plain.get(k, "")) for k in MEANING_KEYS[2:5]}
    return FlagEntry(bit, str(plain["name"]), reserved, digested, place, **words)


def table_digest(entries: Iterable[FlagEntry]) -> str:
    """The digest of a whole table: which bit, which name, which meaning; no order, no owners."""
    rows = sorted(
        [e.bit, e.name, "reserved" if e.reserved else "active", e.digest] for e in entries
    )
    return digest(rows)


def entries_of(table: FlagTable, place: str) -> tuple[FlagEntry, ...]:
    """What a release's manifest says of each bit.

    Raises:
        ValueError: an entry can't be read, or is not what its digest says, or the table isn't.
    """
    found = []
    for said in table.entries:
        state = said.get("state")
        if state not in {"active", "reserved"}:
            raise ValueError(f"{said.get('name')}: state must be active or reserved: {state!r}")
        read = entry(said, place, reserved=state == "reserved")
        if read.digest != said.get("digest"):
            raise ValueError(f"{read}: its digest is {read.digest}, it says {said.get('digest')}")
        found.append(read)
    if table_digest(found) != table.table:
        raise ValueError(f"the table's digest is {table_digest(found)}, it says {table.table}")
    return tuple(found)
