"""Reads a flag registry; every mistake in it is named by file, line and path, all at once."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import yaml
from pydantic import ValidationError

from deploytool.errors import InputError
from deploytool.fleet.yaml_source import Document, Mistake, from_pydantic, named
from deploytool.registry.model import FlagEntry, Registry, entry, table_digest
from deploytool.release.model import FlagTable

BYTES_AT_MOST = 256 * 1024


@dataclass(frozen=True)
class Written:
    """A registry, and what it says of each bit, each with its line."""

    registry: Registry
    entries: tuple[FlagEntry, ...]


def parse_registry(text: str, name: str) -> Written:
    """A registry from the YAML ``text``; ``name`` is what messages call the file.

    What its flags may be, beside those of the past, is for the rules to say.

    Raises:
        InputError: with every mistake at once.
    """
    try:
        document = Document(text)
    except yaml.YAMLError as error:
        raise _bad(name, (f"{name}: is not YAML: {' '.join(str(error).split())}",)) from error
    mistakes: list[Mistake] = list(document.mistakes)
    registry: Registry | None = None
    try:
        registry = Registry.model_validate(document.value)
    except ValidationError as error:
        if document.value is not None or not mistakes:
            mistakes.extend(from_pydantic(error, "a flag registry"))
    if mistakes or registry is None:
        raise _bad(name, named(mistakes, document, name))
    return Written(registry, tuple(_entries(registry, document, name)))


def _entries(registry: Registry, document: Document, name: str) -> Iterator[FlagEntry]:
    for index, flag in enumerate(registry.flags):
        place = f"{name}:{document.line(('flags', index))}"
        yield entry(flag.model_dump(mode="json"), place, reserved=False)
    for index, old in enumerate(registry.reserved):
        place = f"{name}:{document.line(('reserved', index))}"
        yield entry(old.model_dump(mode="json"), place, reserved=True)


def table(written: Written, wire: str) -> FlagTable:
    """What a release's manifest says of its flags; ``wire`` is the digest of its wire format."""
    said = [
        *((flag.model_dump(mode="json"), "active") for flag in written.registry.flags),
        *((old.model_dump(mode="json"), "reserved") for old in written.registry.reserved),
    ]
    rows = [
        {**item, "state": state, "digest": entry(item, "", reserved=state == "reserved").digest}
        for item, state in said
    ]
    rows.sort(key=lambda row: (row["bit"], row["name"]))
    return FlagTable(table=table_digest(written.entries), wire=wire, entries=tuple(rows))


def load_registry(path: Path) -> Written:
    """The registry in the file ``path``.

    Raises:
        InputError: it can't be read, or is wrong.
    """
    try:
        with path.open("rb") as file:
            content = file.read(BYTES_AT_MOST + 1)
        if len(content) > BYTES_AT_MOST:
            raise _bad(str(path), (f"{path}: larger than {BYTES_AT_MOST} bytes",))
        text = content.decode("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(
            f"The flag registry {path} can't be read: {error}",
            "Nothing was touched, and nothing is proven about any flag.",
            "Name it: deploytool flags lint --registry FILE",
        ) from error
    return parse_registry(text, str(path))


def recall(content: bytes, place: str) -> tuple[FlagEntry, ...]:
    """What an older version of a registry says, by whatever rules it was valid then.

    Raises:
        ValueError: it can't be read, so what it says is not known.
    """
    if len(content) > BYTES_AT_MOST:
        raise ValueError(f"larger than {BYTES_AT_MOST} bytes")
    try:
        document = Document(content.decode("utf-8"))
    except yaml.YAMLError as error:
        raise ValueError(f"is not YAML: {' '.join(str(error).split())}") from error
    if document.mistakes:
        raise ValueError(document.mistakes[0].text)
    said = document.value if isinstance(document.value, Mapping) else {}
    if "flags" not in said:
        raise ValueError("is no flag registry: there are no 'flags' in it")
    found = []
    for key in ("flags", "reserved"):
        for index, item in enumerate(_listed(said.get(key, ()), key)):
            here = f"{place}:{document.line((key, index))}"
            found.append(entry(item, here, reserved=key == "reserved"))
    return tuple(found)


def _listed(said: object, key: str) -> tuple[Mapping[str, object], ...]:
    if isinstance(said, tuple) and all(isinstance(item, Mapping) for item in said):
        return said
    raise ValueError(f"{key}: is not a list of mappings")


def _bad(name: str, lines: tuple[str, ...]) -> InputError:
    count = "1 mistake" if len(lines) == 1 else f"{len(lines)} mistakes"
    return InputError(
        f"The flag registry {name} has {count}.",
        "Nothing was touched, and nothing is proven about any flag.",
        f"Fix the lines named here, then: deploytool flags lint --registry {name}",
        lines,
    )
