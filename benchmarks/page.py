"""The page of results: a head, and sections, each written by the benchmark that it is from."""

from __future__ import annotations

import re
from pathlib import Path

RESULTS = Path(__file__).resolve().parents[1] / "benchmarks" / "RESULTS.md"


def sections(path: Path = RESULTS) -> list[str]:
    """The page in pieces: what stands before the first section, and each section."""
    text = path.read_text(encoding="utf-8") if path.exists() else ""
    return re.split(r"^(?=## )", text, flags=re.MULTILINE)


def put_section(text: str, path: Path = RESULTS) -> None:
    """Puts a section in the place of the one with its heading, or at the end."""
    heading = text.partition("\n")[0]
    parts = sections(path)
    headings = [part.partition("\n")[0] for part in parts]
    if heading in headings:
        parts[headings.index(heading)] = text
    else:
        parts.append(text)
    write(parts, path)


def write(parts: list[str], path: Path = RESULTS) -> None:
    """Writes the page from its pieces."""
    path.write_text("\n\n".join(part.strip() for part in parts if part.strip()) + "\n", "utf-8")
