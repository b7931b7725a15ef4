"""YAML with positions: every mistake in a file that a person wrote is named by file and line."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import yaml
from pydantic import ValidationError

Location = tuple[str | int, ...]
DEPTH_AT_MOST = 32
"""Deeper is no file of ours, and costs a reader the square of its depth."""


@dataclass(frozen=True)
class Mistake:
    """One thing that is wrong: where in the document, what was found, what is allowed."""

    at: Location
    text: str


class Document:
    """A YAML document as plain values, with the line of each node.

    What a reader sees must be what is there. So anchors, aliases and duplicate keys are mistakes,
    and so are words that YAML 1.1 takes for something else: ``on``, ``010``, ``0x3``, ``1:30``.

    Raises:
        yaml.YAMLError: it is not YAML.
    """

    def __init__(self, text: str) -> None:
        self.lines: dict[Location, int] = {}
        self.mistakes: list[Mistake] = []
        self.value: Any = None
        self._read(text)

    def _read(self, text: str) -> None:
        depth = 0
        for event in yaml.parse(text, Loader=yaml.SafeLoader):
            depth += isinstance(event, yaml.CollectionStartEvent)
            depth -= isinstance(event, yaml.CollectionEndEvent)
            if depth > DEPTH_AT_MOST:
                raise yaml.YAMLError("it is nested too deeply")
            if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None):
                line = event.start_mark.line + 1 if event.start_mark else 1
                self.mistakes.append(
                    Mistake((), f"line {line}: anchors and aliases are not allowed here")
                )
        node = yaml.compose(text, Loader=yaml.SafeLoader)
        if node is not None and not self.mistakes:
            self.value = self._build(node, ())

    def _build(self, node: yaml.Node, at: Location) -> object:
        self.lines[at] = node.start_mark.line + 1
        if isinstance(node, yaml.MappingNode):
            built: dict[object, object] = {}
            for key_node, value_node in node.value:
                key = self._scalar(key_node, at)
                here = (*at, str(key))
                if key in built:
                    line = key_node.start_mark.line + 1
                    self.mistakes.append(Mistake(here, f"line {line}: the key is here twice"))
                built[key] = self._build(value_node, here)
                self.lines[here] = key_node.start_mark.line + 1
            return built
        if isinstance(node, yaml.SequenceNode):
            return tuple(self._build(item, (*at, index)) for index, item in enumerate(node.value))
        return self._scalar(node, at)

    def _scalar(self, node: yaml.Node, at: Location) -> object:
        loader = yaml.SafeLoader("")
        try:
            value: object = loader.construct_object(node, deep=True)
        except ValueError as error:
            raise yaml.YAMLError(f"line {node.start_mark.line + 1}: {error}") from error
        finally:
            loader.dispose()
        if isinstance(node, yaml.ScalarNode) and _surprising(node.value, value):
            line = node.start_mark.line + 1
            read = str(value).lower()
            self.mistakes.append(
                Mistake(
                    at,
                    f"line {line}: found {node.value}, which YAML reads as {read}; "
                    f'write {read}, or "{node.value}" in quotes',
                )
            )
        return value if not isinstance(value, (list, dict, set)) else str(value)

    def line(self, at: Location) -> int:
        """The line of this place, or of the nearest one around it."""
        for end in range(len(at), -1, -1):
            if at[:end] in self.lines:
                return self.lines[at[:end]]
        return 1


def _surprising(text: str, value: object) -> bool:
    """Whether YAML makes something else of a word than a person does who reads it."""
    if isinstance(value, bool):
        return text not in {"true", "false"}
    if isinstance(value, int):
        return text != str(value)
    return isinstance(value, float) and (":" in text or "_" in text)


def from_pydantic(error: ValidationError, of: str) -> Iterator[Mistake]:
    """The mistakes that a model found in a document; ``of`` is what the document is."""
    for item in error.errors(include_url=False):
        at = tuple(part for part in item["loc"] if part not in {"int", "constrained-int"})
        at = tuple(part for part in at if not str(part).startswith(("literal[", "[key]")))
        found = "" if item["type"] == "missing" else f"found {item['input']!r:.80}: "
        message = f"is not a key of {of}" if item["type"] == "extra_forbidden" else item["msg"]
        yield Mistake(at, f"{found}{message[:1].lower()}{message[1:]}")


def named(mistakes: Iterable[Mistake], document: Document, name: str) -> tuple[str, ...]:
    """A line for each mistake, in the file's order: file ``name``, line, path, what is wrong."""
    in_order = sorted(mistakes, key=lambda m: document.line(m.at))
    return tuple(
        dict.fromkeys(
            f"{name}:{document.line(m.at)}: {'.'.join(map(str, m.at)) or 'document'}: {m.text}"
            for m in in_order
        )
    )
