"""Reads what can be read of an inventory that may be damaged anywhere.

What the strict reader accepts is read as it reads it. Beyond that, no tag, date, second document,
conflict mark, odd byte or broken line keeps an entry from being read that is whole by itself.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

BYTES_AT_MOST = 4 * 1024 * 1024
_LOADERS: tuple[Any, ...] = (getattr(yaml, "CSafeLoader", yaml.SafeLoader), yaml.SafeLoader)
"""The fast one first. The other is what the strict reader uses: it settles what it accepts."""
_SLOWLY_AT_MOST = 256 * 1024
"""So many characters the other one is given: about two seconds."""
_MERGE = "tag:yaml.org,2002:merge"
_ODD = (yaml.YAMLError, ValueError, TypeError, RecursionError, AttributeError, OverflowError)
"""What comes of a value that can't be what it looks like: a 13th month, a tag that is unknown."""
_MARK = re.compile(r"(<{7}|\|{7}|={7}|>{7})( .*)?|---( .*)?|\.\.\.")
"""Lines that git writes into a file with conflicts, and those between documents."""
_KEY = re.compile(r"""\s*(["']?)([^\s"':]+)\1\s*:""")


@dataclass
class Found:
    """What an inventory says, as plain values.

    ``hosts`` has every entry, in the file's order, also those of one name; None where there is no
    mapping of that name. ``unread``: hosts whose entry can't be read, and why. ``trouble``: why
    there may be more to it.
    """

    top: dict[Any, Any] = field(default_factory=dict)
    hosts: list[tuple[str, Any]] | None = None
    unread: dict[str, str] = field(default_factory=dict)
    trouble: str = ""

    def add(self, key: object, value: object) -> None:
        """One more key of the inventory; of two, the first counts."""
        if isinstance(key, str | int | float):
            self.top.setdefault(str(key), value)


def read_inventory(path: Path) -> Found:
    """What the file ``path`` says.

    Raises:
        OSError: it can't be read.
        yaml.YAMLError: nothing in it can be.
    """
    with path.open("rb") as file:
        data = file.read(BYTES_AT_MOST + 1)
    text = _decoded(data[:BYTES_AT_MOST])
    troubles = [f"it is larger than {BYTES_AT_MOST} bytes"] * (len(data) > BYTES_AT_MOST)
    plain = yaml.reader.Reader.NON_PRINTABLE.sub("", text)
    troubles += ["it holds bytes that are no text"] * (plain != text)
    found = _whole(plain)
    troubles += [found.trouble] if found.trouble else []
    found.trouble = "; ".join(troubles)
    return found


def _decoded(data: bytes) -> str:
    """The text, with its lines ended as the strict reader's are."""
    try:
        text = data.decode("utf-16" if data[:2] in {b"\xff\xfe", b"\xfe\xff"} else "utf-8")
    except UnicodeDecodeError:
        text = data.decode("latin-1")  # of which every byte is a letter
    return text.removeprefix("\ufeff").replace("\r\n", "\n").replace("\r", "\n")


def _whole(text: str) -> Found:
    why = ""
    for loader in _LOADERS if len(text) <= _SLOWLY_AT_MOST else _LOADERS[:1]:
        try:
            return _documents(text, loader)
        except (yaml.YAMLError, RecursionError) as error:
            why = why or " ".join(str(error).split())
    found = Found()
    lines = [line for line in text.split("\n") if _MARK.fullmatch(line) is None]
    _add_pieces(found, lines)
    if not found.top:
        raise yaml.YAMLError(why)
    found.trouble = f"it can't be read as written: {why}"
    return found


def _documents(text: str, loader_class: Any) -> Found:  # noqa: ANN401 PyYAML's loaders share no type
    found = Found()
    loader = loader_class(text)
    try:
        count = 0
        while loader.check_node():
            count += 1
            build = _Builder(loader)
            for key, node in build.pairs(loader.get_node()):
                if key == "hosts":
                    if not isinstance(node, yaml.MappingNode):
                        raise yaml.YAMLError("hosts is no mapping")
                    entries = [(str(name), build(one)) for name, one in build.pairs(node)]
                    found.hosts = [*(found.hosts or []), *entries]
                else:
                    found.add(key, build(node))
    finally:
        loader.dispose()
    if count > 1:
        found.trouble = f"{count} documents are in it, and other commands refuse it"
    return found


class _Builder:
    """Makes plain values of the nodes of one document; what can't be one stays its text."""

    def __init__(self, loader: Any) -> None:  # noqa: ANN401
        self._loader = loader
        self._built: dict[int, Any] = {}
        """By the node: an alias is built once, and may lead to itself."""

    def __call__(self, node: yaml.Node) -> Any:  # noqa: ANN401 what YAML can say
        if id(node) in self._built:
            return self._built[id(node)]
        if isinstance(node, yaml.MappingNode):
            into: dict[Any, Any] = {}
            self._built[id(node)] = into
            into.update((key, self(value)) for key, value in self.pairs(node))
            return into
        if isinstance(node, yaml.SequenceNode):
            items: list[Any] = []
            self._built[id(node)] = items
            items.extend(self(item) for item in node.value)
            return items
        return self._scalar(node)

    def _scalar(self, node: yaml.Node) -> Any:  # noqa: ANN401
        try:
            return self._loader.construct_object(node, deep=True)
        except _ODD:
            return str(node.value)

    def pairs(self, node: yaml.Node | None, depth: int = 0) -> Iterator[tuple[Any, yaml.Node]]:
        """Keys and values of a mapping, those that it merges in (``<<``) first."""
        items = node.value if isinstance(node, yaml.MappingNode) and depth < 9 else ()
        own = {str(key.value) for key, _ in items}
        for key, value in items:
            if key.tag == _MERGE:
                merged = value.value if isinstance(value, yaml.SequenceNode) else (value,)
                for one in merged:
                    yield from (p for p in self.pairs(one, depth + 1) if str(p[0]) not in own)
        for key, value in items:
            if key.tag != _MERGE:
                scalar = isinstance(key, yaml.ScalarNode)
                yield (self._scalar(key) if scalar else str(key.value)), value


def _add_pieces(found: Found, lines: list[str]) -> None:
    """Reads a block mapping key by key: a broken one costs no other."""
    for piece in _split(lines):
        try:
            part = _documents("\n".join(piece), _LOADERS[0])
        except (yaml.YAMLError, RecursionError):
            name, below = _header(piece)
            if name == "hosts":
                found.hosts = found.hosts or []
                for entry in _split(below):
                    _add_entry(found, entry)
            elif below:
                found.add(name, _mapping(below))
        else:
            found.hosts = [*(found.hosts or []), *part.hosts] if part.hosts else found.hosts
            for key, value in part.top.items():
                found.add(key, value)


def _add_entry(found: Found, entry: list[str]) -> None:
    """Reads the entry of one host by itself; if it is broken, key by key."""
    assert found.hosts is not None  # noqa: S101 the caller's
    try:
        found.hosts += _documents("\n".join(["hosts:", *entry]), _LOADERS[0]).hosts or []
    except (yaml.YAMLError, RecursionError) as error:
        name, below = _header(entry)
        if below:
            found.hosts.append((name, _mapping(below)))
        else:
            found.unread[name] = " ".join(str(error).split())


def _mapping(lines: list[str]) -> dict[Any, Any]:
    found = Found()
    _add_pieces(found, lines)
    return found.top


def _header(piece: list[str]) -> tuple[str, list[str]]:
    """The key with which a piece of a block mapping begins, and the lines below it."""
    said = _KEY.match(piece[0])
    if said is None:
        return piece[0].strip(), []
    rest = piece[0][said.end() :].strip()
    return said.group(2), [] if rest and not rest.startswith("#") else piece[1:]


def _split(lines: list[str]) -> Iterator[list[str]]:
    """The pieces of a block: each begins where a line is indented no more than the first one."""
    piece: list[str] = []
    first: int | None = None
    for line in lines:
        text = line.lstrip(" ")
        if not text or text.startswith("#"):
            continue
        indent = len(line) - len(text)
        first = indent if first is None else first
        if indent <= first and piece:
            yield piece
            piece = []
        piece.append(line)
    if piece:
        yield piece
