"""Whether a build can still do what a retired flag did, and can do what its own flags say. Pure.

The table of reserved flags is the one place where a retired name may stand. Names are compared
by their words, so that ``POWER_PEG`` is found in ``PowerPegStrategy`` and ``router.power_peg``.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from deploytool.flags.model import Entry
from deploytool.flags.rules import Refusal, Rule

_WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|[0-9]+")


@dataclass(frozen=True)
class Word:
    """A name or a text, and the member of the artifact that it stands in."""

    member: str
    text: str


@dataclass(frozen=True)
class Module:
    """A module, and the functions and classes that it has for certain once it is imported."""

    name: str
    defines: frozenset[str]


@dataclass(frozen=True)
class Contents:
    """What is in an artifact: its modules, every name and text, the flag tables that it carries."""

    modules: tuple[Module, ...]
    words: tuple[Word, ...]
    tables: tuple[object, ...]


def words_of(text: str) -> tuple[str, ...]:
    """The words of an identifier or a sentence, whatever joins them."""
    return tuple(word.lower() for word in _WORD.findall(text))


def names(text: str, retired: str) -> bool:
    """Whether ``text`` names what is called ``retired``: its words in a row, or run together."""
    wanted, found = words_of(retired), words_of(text)
    if not wanted:
        return False
    size = len(wanted)
    return "".join(wanted) in found or any(
        found[at : at + size] == wanted for at in range(len(found) - size + 1)
    )


def unreachable(
    contents: Contents, table: Sequence[Entry], past: Iterable[Entry], build: str
) -> tuple[Refusal, ...]:
    """Everything that FLAG_RETIRED_UNREACHABLE forbids in a build with this flag ``table``.

    ``past`` tells which handlers the retired flags had, when they were active.
    """
    return tuple(
        dict.fromkeys((*_retired(contents, table, past, build), *_missing(contents, table, build)))
    )


def _retired(
    contents: Contents, table: Sequence[Entry], past: Iterable[Entry], build: str
) -> Iterator[Refusal]:
    reserved = {(item.bit, item.name): item for item in table if item.reserved}
    for (bit, name), old in reserved.items():
        for word in contents.words:
            if names(word.text, name):
                yield _refusal(
                    f"{build}: {word.member}",
                    f"{name} is retired (bit {bit}, {old.place}), but the code still "
                    f"says {_short(word.text)!r}",
                    f"take the code of {name} out of the build",
                )
    defined = {f"{module.name}:{name}" for module in contents.modules for name in module.defines}
    handlers = {
        (item.handler, item.name)
        for item in past
        if not item.reserved and (item.bit, item.name) in reserved
    }
    for handler, name in sorted(handlers):
        if handler in defined:
            yield _refusal(
                f"{build}: {handler.partition(':')[0]}",
                f"{handler} carried out {name}, which is retired, and is still there",
                f"take {handler} out of the build; new code gets a name of its own",
            )


def _missing(contents: Contents, table: Sequence[Entry], build: str) -> Iterator[Refusal]:
    modules = {module.name: module.defines for module in contents.modules}
    for item in table:
        if item.reserved:
            continue
        module, _, name = item.handler.partition(":")
        parents = [module.rsplit(".", up)[0] for up in range(1, module.count(".") + 1)]
        if name not in modules.get(module, ()) or any(p not in modules for p in parents):
            yield _refusal(
                f"{build}: {module}",
                f"{item} is carried out by {item.handler} ({item.place}), which this build "
                "does not have once it is imported",
                f"define {name} at the top of {module}, or reserve {item.name}",
            )


def _refusal(place: str, text: str, remedy: str) -> Refusal:
    return Refusal(Rule.RETIRED_UNREACHABLE, place, text, remedy)


def _short(text: str) -> str:
    return text if len(text) <= 60 else text[:57] + "..."
