"""Whether a build can still do what a retired flag did, and can do what its own flags say. Pure.

The table of reserved flags is the one place where a retired name may stand. Names are compared
by their words, so that ``POWER_PEG`` is found in ``PowerPegStrategy`` and ``router.power_peg``.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from deploytool.registry.model import FlagEntry
from deploytool.registry.rules import FlagRefusal, FlagRule

_BY_NAME = frozenset({"import_module", "__import__"})
_WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|[0-9]+")


@dataclass(frozen=True)
class Word:
    """A name or a text, and the member of the artifact that it stands in; ``line`` 0: no line."""

    member: str
    text: str
    line: int = 0


@dataclass(frozen=True)
class Module:
    """A module, and the functions and classes that it has for certain once it is imported.

    ``defines`` gives each one's line. ``imports`` are the modules that its code asks for when it
    runs (type checkers' imports aside), and the texts in it that may be a module's name.
    """

    name: str
    member: str
    defines: Mapping[str, int]
    imports: frozenset[str] = frozenset()
    says: frozenset[str] = frozenset()


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
    contents: Contents,
    table: Sequence[FlagEntry],
    past: Sequence[FlagEntry],
    build: str,
    *,
    newest: bool = False,
) -> tuple[FlagRefusal, ...]:
    """Everything that FLAG_RETIRED_UNREACHABLE forbids in a build with this flag ``table``.

    ``past`` tells which handlers the retired flags had, when they were active. In the ``newest``
    build a flag is retired too when it was dropped, or its bit given away, and never reserved.
    """
    retired = {(item.bit, item.name): item for item in table if item.reserved}
    if newest:
        here = {item.name for item in table if not item.reserved}
        for item in past:
            if item.name not in here:
                retired.setdefault((item.bit, item.name), item)
    found = (*_retired(contents, retired, past, build), *_missing(contents, table, build))
    return tuple(dict.fromkeys(found))


def _retired(
    contents: Contents,
    retired: Mapping[tuple[int, str], FlagEntry],
    past: Iterable[FlagEntry],
    build: str,
) -> Iterator[FlagRefusal]:
    for (bit, name), old in retired.items():
        for word in contents.words:
            if names(word.text, name):
                yield _refusal(
                    f"{build}: {word.member}",
                    f"{name} is retired (bit {bit}, {old.place}), but the code still "
                    f"says {_short(word.text)!r}",
                    f"take the code of {name} out of the build",
                    word.member,
                    word.line,
                )
    defined = {
        f"{module.name}:{name}": (module.member, line)
        for module in contents.modules
        for name, line in module.defines.items()
    }
    handlers = {
        (item.handler, item.name)
        for item in past
        if not item.reserved and (item.bit, item.name) in retired
    }
    for handler, name in sorted(handlers):
        if handler in defined:
            yield _refusal(
                f"{build}: {handler.partition(':')[0]}",
                f"{handler} carried out {name}, which is retired, and is still there",
                f"take {handler} out of the build; new code gets a name of its own",
                *defined[handler],
            )


def _missing(contents: Contents, table: Sequence[FlagEntry], build: str) -> Iterator[FlagRefusal]:
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


def _refusal(place: str, text: str, remedy: str, member: str = "", line: int = 0) -> FlagRefusal:
    return FlagRefusal(FlagRule.RETIRED_UNREACHABLE, place, text, remedy, member, line)


def unreached(
    contents: Contents, table: Sequence[FlagEntry], start: str = "__main__"
) -> tuple[Module, ...]:
    """The modules that nothing reaches which runs from ``start``: nobody can say what they are for.

    Code is reached by an import; by its whole name, where a module that is reached imports by
    name; and, where the table's handlers are imported so, as an active flag's handler.
    """
    modules = {module.name: module for module in contents.modules}
    seen = _from({start} & set(modules), modules)
    said = {text for name in seen for text in modules[name].says}
    if "handler" in said and said & _BY_NAME:
        handlers = {item.handler.partition(":")[0] for item in table if not item.reserved}
        seen = _from(seen | (handlers & set(modules)), modules)
    return tuple(module for name, module in modules.items() if name not in seen)


def _from(roots: set[str], modules: Mapping[str, Module]) -> set[str]:
    """Everything that is loaded when ``roots`` are; a package comes with what is in it."""
    seen: set[str] = set()
    ahead = list(roots)
    while ahead:
        name = ahead.pop()
        if name in seen or name not in modules:
            continue
        seen.add(name)
        says = modules[name].says
        ahead += modules[name].imports | (says if says & _BY_NAME else frozenset())
        ahead.append(name.rpartition(".")[0])
    return seen


def _short(text: str) -> str:
    return text if len(text) <= 60 else text[:57] + "..."
