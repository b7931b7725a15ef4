"""The diagram in the docs is drawn from the table."""

from __future__ import annotations

from pathlib import Path

from deploytool.rollout.table import mermaid

DOCS = Path(__file__).parents[2] / "docs" / "rollout.md"


def test_the_docs_show_the_table_as_it_is() -> None:
    assert f"```mermaid\n{mermaid()}```\n" in DOCS.read_text(encoding="utf-8")
