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
import warnings
import zipfile
from collections.abc import Iterator
from pathlib import Path
from types import CodeType

from deploytool.flags.reach import Contents, Module, Word

_BYTES_AT_MOST = 256 * 1024 * 1024
_PYC_HEADER = 16


class NotReadable(ValueError):
    """The artifact, or a part of it, can't be looked into."""


def read_artifact(path: Path) -> Contents:
    """What is in the zipapp at ``path``.

    Raises:
        NotReadable: it is no zipapp, or a member is neither Python nor JSON, or is damaged.
    """
    try:
        return _read(path.read_bytes())
    except (OSError, zipfile.BadZipFile, RuntimeError, NotImplementedError) as error:
        raise NotReadable(f"it is no zipapp that can be read: {error}") from error


def _read(content: bytes) -> Contents:
    modules: list[Module] = []
    words: list[Word] = []
    tables: list[object] = []
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        names = [info.filename for info in archive.infolist() if not info.is_dir()]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise NotReadable(f"it has two members of one name: {', '.join(twice)}")
        if sum(info.file_size for info in archive.infolist()) > _BYTES_AT_MOST:
            raise NotReadable(f"it holds more than {_BYTES_AT_MOST} bytes")
        for name in names:
            inside = archive.read(name)
            words.append(Word(name, name.rpartition(".")[0]))
            if name.endswith((".py", ".pyc")):
                code = _code(name, inside)
                modules.append(Module(_module(name), frozenset(_defined(code))))
                words.extend(Word(name, text) for text in _texts(code))
            elif name.endswith(".json"):
                words.extend(Word(name, text) for text in _json(name, inside, tables))
            else:
                raise NotReadable(f"{name} is neither Python nor JSON: nobody can say what it does")
    return Contents(tuple(modules), tuple(dict.fromkeys(words)), tuple(tables))


def _module(name: str) -> str:
    dotted = name.rpartition(".")[0].replace("/", ".")
    return dotted.removesuffix(".__init__")


def _code(name: str, inside: bytes) -> CodeType:
    try:
        if name.endswith(".py"):
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


def _texts(code: CodeType) -> Iterator[str]:
    """Every name and every text in the code and in all that is nested in it."""
    yield code.co_name
    for names in (code.co_names, code.co_varnames, code.co_freevars, code.co_cellvars):
        yield from names
    for constant in code.co_consts:
        yield from _constant(constant)


def _constant(constant: object) -> Iterator[str]:
    if isinstance(constant, CodeType):
        yield from _texts(constant)
    elif isinstance(constant, str):
        yield constant
    elif isinstance(constant, bytes):
        yield constant.decode("latin-1")
    elif isinstance(constant, (tuple, frozenset)):
        for item in constant:
            yield from _constant(item)


def _defined(code: CodeType) -> Iterator[str]:
    """The functions and classes that are there once the module was imported, whatever happens.

    One that is defined only in a branch, or replaced or deleted later, is not.
    """
    steps = list(dis.get_instructions(code))
    jumps = [
        (step.offset, int(step.argval))
        for step in steps
        if step.opcode in {*dis.hasjrel, *dis.hasjabs}
    ]
    bodies = {constant.co_name for constant in code.co_consts if isinstance(constant, CodeType)}
    for name in bodies:
        binds = [s for s in steps if s.argval == name and s.opname in {"STORE_NAME", "DELETE_NAME"}]
        if len(binds) == 1 and binds[0].opname == "STORE_NAME":
            at = binds[0].offset
            if not any(start < at < target for start, target in jumps):
                yield name


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
