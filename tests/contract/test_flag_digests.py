"""The router's reader of the registry and deploytool's give each meaning the same digest.

The golden file holds both sides to it: neither can change what it computes, or what a registry of
the past said, without this test noticing.
"""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from deploytool.registry.model import entries_of, table_digest
from deploytool.registry.rules import check_against
from deploytool.registry.source import load_registry, recall
from deploytool.release.model import FlagTable

HERE = Path(__file__).parent
SOURCE = HERE.parents[1] / "router_binary"
GOLDEN: dict[str, Any] = json.loads((HERE / "golden" / "flags.json").read_text("utf-8"))
REGISTRIES = sorted(str(path.relative_to(SOURCE)) for path in SOURCE.rglob("flags*.yaml"))
UNUSUAL = """
schema: 1
flags:
  - {requires: [parity], activation: runtime, owner: "x", since: "1", handler: "router.a:B",
     meaning: "Größer als\\u2028 \\"das\\"  und
        \\\\ mehr 😀", bit: 15, name: A_1}
  - {name: B, bit: 0, meaning: <b>, handler: "router.b:c", since: "1", owner: x,
     activation: always, requires: []}
reserved:
  - {bit: 9, name: Z, why: 'é', when: never}
  - {bit: 7, name: Z, why: It stood on two bits., when: then}
"""
TWICE = """
schema: 1
flags: []
reserved:
  - {bit: 9, name: Z, why: x, when: y}
  - {bit: 9, name: Z, why: z, when: y}
"""


def _router() -> ModuleType:
    spec = importlib.util.spec_from_file_location("router_registry", SOURCE / "registry.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


ROUTER = _router()


def _theirs(path: Path) -> tuple[str, dict[str, str]]:
    table = ROUTER.load_table(path)
    return table["table"], {_key(e["bit"], e["name"]): e["digest"] for e in table["entries"]}


def _ours(path: Path) -> tuple[str, dict[str, str]]:
    entries = load_registry(path).entries
    return table_digest(entries), {_key(e.bit, e.name): e.digest for e in entries}


def _key(bit: int, name: str) -> str:
    return f"bit {bit} {name}"


def test_the_golden_file_knows_every_registry_of_the_router() -> None:
    assert sorted(GOLDEN) == REGISTRIES


@pytest.mark.parametrize("name", REGISTRIES)
def test_both_sides_compute_what_the_golden_file_says(name: str) -> None:
    golden = (GOLDEN[name]["table"], GOLDEN[name]["meanings"])
    assert _ours(SOURCE / name) == golden
    assert _theirs(SOURCE / name) == golden


def test_they_agree_on_unusual_texts(tmp_path: Path) -> None:
    path = tmp_path / "flags.yaml"
    path.write_text(UNUSUAL, "utf-8")
    assert _ours(path) == _theirs(path)
    assert len(_ours(path)[1]) == 4
    assert check_against(load_registry(path).entries, ()) == ()


def test_they_refuse_the_same_bit_and_name_twice(tmp_path: Path) -> None:
    path = tmp_path / "flags.yaml"
    path.write_text(TWICE, "utf-8")
    assert check_against(load_registry(path).entries, ())
    with pytest.raises(ValueError, match="twice"):
        ROUTER.load_table(path)


@pytest.mark.parametrize("name", REGISTRIES)
def test_a_build_s_table_is_read_back_as_the_registry_that_it_was_made_of(name: str) -> None:
    made = ROUTER.load_table(SOURCE / name)
    table = FlagTable(table=made["table"], wire="0" * 64, entries=tuple(made["entries"]))
    registry = {entry.content for entry in load_registry(SOURCE / name).entries}
    assert {entry.content for entry in entries_of(table, "a manifest")} == registry
    assert {entry.content for entry in recall((SOURCE / name).read_bytes(), "then")} == registry
