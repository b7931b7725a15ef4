"""Holds what commands print with ``--json`` against the schemas that ship with them."""

from __future__ import annotations

import json
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import Any

from jsonschema import Draft202012Validator
from referencing import Registry, Resource

FOLDER = Path(__file__).parents[1] / "deploytool" / "schemas"
SHARED = frozenset({"end", "finding"})
"""What other schemas refer to; the rest is a command each."""


@cache
def schemas() -> dict[str, Any]:
    """Every schema, by its file's name."""
    return {path.stem: json.loads(path.read_text("utf-8")) for path in FOLDER.glob("*.json")}


@cache
def validator(name: str) -> Draft202012Validator:
    found = [Resource.from_contents(schema) for schema in schemas().values()]
    registry: Registry[Any] = Registry().with_resources([(item.id() or "", item) for item in found])
    return Draft202012Validator(schemas()[name], registry=registry)


def command_of(words: Iterable[str]) -> str:
    """The schema's name, by what was typed."""
    plain = [word for word in words if not word.startswith("-")]
    for count in (3, 2, 1):
        if (name := "-".join(plain[:count])) in schemas():
            return name
    return "end"  # no command has this name


def valid(words: Iterable[str], document: dict[str, Any]) -> dict[str, Any]:
    """The document, which is as its command's schema says; the mistakes are shown."""
    name = command_of(words)
    mistakes = [f"{e.json_path}: {e.message[:200]}" for e in validator(name).iter_errors(document)]
    assert not mistakes, (name, mistakes)
    return document
