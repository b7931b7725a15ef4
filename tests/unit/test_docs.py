"""What the docs take from the code is as the code has it now."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[2]
PAGES = sorted((ROOT / "docs").rglob("*.md"))
_LINK = re.compile(r"\]\(([^)#\s]+)")


def _docs() -> ModuleType:
    spec = importlib.util.spec_from_file_location("docs", ROOT / "scripts" / "docs.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


docs = _docs()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_generated_parts_are_as_the_code_has_them(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    assert docs.drawn(text) == text, "run: .venv/bin/python scripts/docs.py"


def test_the_manual_page_names_the_commands_that_there_are() -> None:
    assert docs.MANUAL.read_text(encoding="utf-8") == docs.manual()


def test_the_site_has_every_page() -> None:
    site = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    named = set(re.findall(r"^ +- ([\w/-]+\.md)$", site, re.MULTILINE))
    assert named == {page.relative_to(ROOT / "docs").as_posix() for page in PAGES}


def test_every_promise_is_on_its_page_and_only_p8_is_open() -> None:
    page = (ROOT / "docs/promises.md").read_text(encoding="utf-8")
    assert set(re.findall(r"generated: tests of (P\d)", page)) == set(docs.PROMISES)
    assert [name for name in docs.PROMISES if not [*docs.tests_of(name)]] == ["P8"]


def test_the_reference_has_every_rule_and_no_other() -> None:
    page = (ROOT / "docs/reference.md").read_text(encoding="utf-8")
    listed = re.findall(r"^\| `([A-Z_]+)` \|", page, re.MULTILINE)
    assert len(listed) == len(set(listed))
    assert set(listed) == docs.rule_ids()


def test_a_refusal_by_a_rule_of_no_known_kind_would_be_seen() -> None:
    """Ids are found by their first word: a new kind of rule has to be added there."""
    refused = re.compile(r'(?:forbids|Refused)\(\s*(?:[\w.]+,\s*)?"([A-Z][A-Z_]+)"')
    sources = [path.read_text(encoding="utf-8") for path in docs.tracked("deploytool/**.py")]
    named = {rule for source in sources for rule in refused.findall(source)}
    assert named
    assert named <= docs.rule_ids()


@pytest.mark.parametrize(
    "page", [*PAGES, *ROOT.glob("*.md")], ids=lambda page: page.relative_to(ROOT).as_posix()
)
def test_links_lead_to_files(page: Path) -> None:
    text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    links = [link for link in _LINK.findall(text) if "://" not in link]
    assert [link for link in links if not (page.parent / link).exists()] == []
