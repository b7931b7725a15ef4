"""What is in a built artifact: its code is read as Python compiles it, not searched as text.

A zipapp's modules are compiled (or unmarshalled) here and never run. What a comment says is not
in the code; what any name or constant says is.
"""

from __future__ import annotations

import dis
import importlib.util
import io
import json
import marshal
import re
import tokenize
import warnings
import zipfile
import zlib
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from types import CodeType

from deploytool.registry.reachability import Contents, Module, Word

_BYTES_AT_MOST = 256 * 1024 * 1024
_PYC_HEADER = 16
_SHEBANG = re.compile(rb"#![^\n]*python[^\n]*\n")


class NotReadable(ValueError):
    """The artifact, or a part of it, can't be looked into."""


def read_artifact(path: Path) -> Contents:
    """What is in the zipapp at ``path``.

    Raises:
        NotReadable: it is no zipapp, or a member is neither Python nor JSON, or is damaged.
    """
    modules: list[Module] = []
    words: list[Word] = []
    tables: list[object] = []
    for name, inside in members(path).items():
        words.append(Word(name, name.rpartition(".")[0]))
        if name.endswith((".py", ".pyc")):
            code = _code(name, inside)
            texts = tuple(_texts(code))
            modules.append(_read_module(name, code, texts))
            words.extend(Word(name, text, line) for text, line in texts)
        elif name.endswith(".json"):
            words.extend(Word(name, text) for text in _json(name, inside, tables))
        else:
            raise NotReadable(f"{name} is neither Python nor JSON: no one can say what it does")
    first: dict[tuple[str, str], Word] = {}
    for word in words:  # a text that stands in a member ten times is one; its first line is said
        first.setdefault((word.member, word.text), word)
    return Contents(tuple(modules), tuple(first.values()), tuple(tables))


def members(path: Path) -> dict[str, bytes]:
    """The files in the zipapp at ``path``, by name.

    Raises:
        NotReadable: it is no zipapp, or two of them have one name, or it holds too much.
    """
    try:
        content = path.read_bytes()
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            begins = min((info.header_offset for info in archive.infolist()), default=0)
            if begins and not _SHEBANG.fullmatch(content[:begins]):
                raise NotReadable("more than one line of #!python is before what is packed")
            names = [info.filename for info in archive.infolist() if not info.is_dir()]
            twice = sorted({name for name in names if names.count(name) > 1})
            if twice:
                raise NotReadable(f"it has two members of one name: {', '.join(twice)}")
            if sum(info.file_size for info in archive.infolist()) > _BYTES_AT_MOST:
                raise NotReadable(f"it holds more than {_BYTES_AT_MOST} bytes")
            return {name: archive.read(name) for name in names}
    except (OSError, zipfile.BadZipFile, zlib.error, RuntimeError, NotImplementedError) as error:
        raise NotReadable(f"it is no zipapp that can be read: {error}") from error


def _read_module(member: str, code: CodeType, texts: tuple[tuple[str, int], ...]) -> Module:
    dotted = member.rpartition(".")[0].replace("/", ".")
    name = dotted.removesuffix(".__init__")
    package = name if dotted != name else name.rpartition(".")[0]
    imports = frozenset(_imported(code, package))
    return Module(name, member, dict(_defined(code)), imports, frozenset(t for t, _ in texts))


def _code(name: str, inside: bytes) -> CodeType:
    try:
        if name.endswith(".py"):
            _check_encoding(name, inside)
            with warnings.catch_warnings(action="ignore"):
                return compile(inside, name, "exec", dont_inherit=True)
        if inside[:4] != importlib.util.MAGIC_NUMBER:
            raise NotReadable(f"{name} was compiled by another Python: give its source instead")
        code = marshal.loads(inside[_PYC_HEADER:])  # noqa: S302 it is looked at, and never run
    except (SyntaxError, ValueError, EOFError, TypeError, RecursionError) as error:
        raise NotReadable(f"{name} is no Python that can be read: {error}") from error
    if not isinstance(code, CodeType):
        raise NotReadable(f"{name} holds no code")
    return code


def _check_encoding(name: str, inside: bytes) -> None:
    """A file that says that it is something else than UTF-8 reads otherwise to others."""
    found, _ = tokenize.detect_encoding(io.BytesIO(inside).readline)
    if found != "utf-8":
        raise NotReadable(f"{name} says that it is {found}, not UTF-8")


def _texts(code: CodeType) -> Iterator[tuple[str, int]]:
    """Every name and every text in the code and in all that is nested in it, with its line."""
    lines = _lines(code)
    yield code.co_name, code.co_firstlineno
    for names in (code.co_names, code.co_varnames, code.co_freevars, code.co_cellvars):
        for name in names:
            yield name, lines.get(name, code.co_firstlineno)
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _texts(constant)
            continue
        for text in _constant(constant):
            yield text, lines.get(text, code.co_firstlineno)


def _lines(code: CodeType) -> dict[str, int]:
    """The first line on which each name and text of this code is used."""
    found: dict[str, int] = {}
    for step in dis.get_instructions(code):
        line = step.positions.lineno if step.positions else None
        said = step.argval
        texts = [said] if isinstance(said, str) else _constant(said)
        for text in texts:
            found.setdefault(text, line or code.co_firstlineno)
    return found


def _constant(constant: object) -> Iterator[str]:
    if isinstance(constant, str):
        yield constant
    elif isinstance(constant, bytes):
        yield constant.decode("latin-1")
    elif isinstance(constant, (tuple, frozenset)):
        for item in constant:
            yield from _constant(item)


def _imported(code: CodeType, package: str) -> Iterator[str]:
    """The modules that the code asks for, in itself and in all that is nested in it.

    ``package`` is where a relative import starts. An import that only a type checker sees asks
    for nothing: it never runs.
    """
    steps = [step for step in dis.get_instructions(code) if step.opname != "EXTENDED_ARG"]
    unseen = tuple(_for_type_checkers(steps))
    for number, step in enumerate(steps):
        if step.opname != "IMPORT_NAME" or any(a < step.offset < b for a, b in unseen):
            continue
        level, chosen = steps[number - 2].argval, steps[number - 1].argval
        base = _absolute(str(step.argval), level if isinstance(level, int) else 0, package)
        parts = base.split(".")
        yield from (".".join(parts[:end]) for end in range(1, len(parts) + 1))
        for name in chosen if isinstance(chosen, tuple) else ():
            yield f"{base}.{name}"
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _imported(constant, package)


def _absolute(name: str, level: int, package: str) -> str:
    if level == 0:
        return name
    above = package.split(".")
    base = ".".join(above[: len(above) - level + 1])
    return f"{base}.{name}" if name else base


def _for_type_checkers(steps: list[dis.Instruction]) -> Iterator[tuple[int, int]]:
    """From where to where code runs only if ``TYPE_CHECKING`` is true, which it never is."""
    for one, two in pairwise(steps):
        jumps = two.opname.startswith("POP_JUMP") and "IF_FALSE" in two.opname
        if one.argval == "TYPE_CHECKING" and jumps:
            yield two.offset, int(two.argval)


def _defined(code: CodeType) -> Iterator[tuple[str, int]]:
    """The functions and classes that are there once the module was imported, whatever happens.

    One that is defined only in a branch, or replaced or deleted later, is not.
    """
    steps = list(dis.get_instructions(code))
    jumps = [
        (step.offset, int(step.argval))
        for step in steps
        if step.opcode in {*dis.hasjrel, *dis.hasjabs}
    ]
    bodies = {c.co_name: c.co_firstlineno for c in code.co_consts if isinstance(c, CodeType)}
    for name, line in bodies.items():
        binds = [s for s in steps if s.argval == name and s.opname in {"STORE_NAME", "DELETE_NAME"}]
        if len(binds) == 1 and binds[0].opname == "STORE_NAME":
            at = binds[0].offset
            if not any(start < at < target for start, target in jumps):
                yield name, line


def _json(name: str, inside: bytes, tables: list[object]) -> Iterator[str]:
    """The texts in a JSON member, but for the reserved entries of its flag table."""
    try:
        said = json.loads(inside)
    except (ValueError, RecursionError) as error:
        raise NotReadable(f"{name} is no JSON: {error}") from error
    if isinstance(said, dict) and isinstance(flags := said.get("flags"), dict):
        tables.append({key: flags.get(key) for key in ("table", "wire", "entries")})
        entries = flags.get("entries")
        if isinstance(entries, list):
            said["flags"] = {**flags, "entries": [e for e in entries if not _is_reserved(e)]}
    yield from _leaves(said)


def _is_reserved(entry: object) -> bool:
    return isinstance(entry, dict) and entry.get("state") == "reserved"


def _leaves(value: object) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, list):
        for item in value:
            yield from _leaves(item)
    elif isinstance(value, dict):
        for key, item in value.items():
            yield key
            yield from _leaves(item)
