"""No handler of a retired flag is in a build, and each flag's own handler is."""

from __future__ import annotations

from pathlib import Path

import pytest

from deploytool.registry.artifact import NotReadable, read_artifact
from deploytool.registry.model import entries_of
from deploytool.registry.reachability import names, unreachable
from deploytool.registry.source import parse_registry
from deploytool.release.build import build

from .artifacts import compiled, put, table, zipapp
from .registries import BEFORE, flag, registry, reserved

SOURCE = Path(__file__).parents[3] / "router_binary"
NOW = table(registry(flag("RETAIL", 4), reserved("POWER_PEG", 3), reserved("RLP", 3)))
PAST = parse_registry(BEFORE, "build 2011.4").entries
GOOD: dict[str, str | bytes] = {
    "__main__.py": "import router.retail\n",
    "router/__init__.py": "",
    "router/retail.py": "class RETAIL:\n    pass\n",
    "build.json": '{"flags": ' + NOW.model_dump_json() + "}",
}


def told(tmp_path: Path, members: dict[str, str | bytes]) -> list[str]:
    contents = read_artifact(put(tmp_path, zipapp({**GOOD, **members})))
    found = unreachable(contents, entries_of(NOW, "manifest"), PAST, "router 1")
    assert all(refusal.rule.value == "FLAG_RETIRED_UNREACHABLE" for refusal in found)
    return [str(refusal) for refusal in found]


def test_a_build_that_is_clean(tmp_path: Path) -> None:
    assert told(tmp_path, {}) == []
    assert read_artifact(put(tmp_path, zipapp(GOOD))).tables == (NOW.model_dump(mode="json"),)


@pytest.mark.parametrize(
    "code",
    [
        "class PowerPeg: pass",
        "def start_power_peg(): pass",
        "def f(power_peg): pass",
        "def f():\n    POWER_PEG = 8\n    return lambda: POWER_PEG",
        "from elsewhere import PowerPegStrategy as usual",
        "import elsewhere.power_peg",
        "thing.powerpeg()",
        "getattr(thing, 'power_peg')",
        "x = b'POWER-PEG'",
        "x = {'a': ('b', 'the power peg')}",
        "def f():\n    def g():\n        return 1 in {'POWER_PEG', 'x'}",
        '"""Once had POWER_PEG."""',
        "def f(): 'power peg'",
        "x: 'PowerPeg' = 1\nclass A:\n    y = 'PowerPeg'",
        "match x:\n    case {'POWER_PEG': 1}: pass",
        "x = f'{y}power_peg{z}'",
        "def rlp_first(): pass",
        "class RLPHandler: pass",
    ],
)
def test_a_retired_name_is_found_wherever_code_can_say_it(tmp_path: Path, code: str) -> None:
    for member, inside in (("router/x.py", code), ("router/x.pyc", compiled(code))):
        (line, *_) = told(tmp_path, {member: inside})
        assert f"router 1: {member}: FLAG_RETIRED_UNREACHABLE: " in line
        assert "is retired (bit 3, manifest)" in line
        assert "out of the build" in line


@pytest.mark.parametrize(
    "code",
    ["# POWER_PEG is gone", "power = peg", "class Powerless: peg = 1", "def hurlpool(): pass"],
)
def test_what_only_looks_like_it_is_let_through(tmp_path: Path, code: str) -> None:
    assert told(tmp_path, {"router/x.py": code}) == []


def test_a_module_of_that_name_is_found_even_when_it_is_empty(tmp_path: Path) -> None:
    assert "'router/power_peg'" in told(tmp_path, {"router/power_peg.py": ""})[0]


def test_a_handler_of_a_retired_flag_is_found_under_a_harmless_name(tmp_path: Path) -> None:
    now = table(registry(reserved("POWER_PEG", 3)))
    past = parse_registry(registry(flag("POWER_PEG", 3, handler="router.far:Side")), "then").entries
    contents = read_artifact(put(tmp_path, zipapp({"router/far.py": "class Side: pass"})))
    (refusal,) = unreachable(contents, entries_of(now, "m"), past, "router 1")
    assert "router.far:Side carried out POWER_PEG" in refusal.text


def test_the_name_may_stand_in_the_reserved_entries_and_nowhere_else(tmp_path: Path) -> None:
    active = table(registry(flag("RETAIL", 4, meaning="Like POWER_PEG.")))
    for inside in (
        '{"strategies": ["power_peg"]}',
        '{"power_peg": 1}',
        '[{"x": [{"y": "POWER_PEG"}]}]',
        '{"flags": ' + active.model_dump_json() + "}",
        '{"other": {"entries": [{"state": "reserved", "name": "POWER_PEG"}]}}',
    ):
        assert told(tmp_path, {"more.json": inside}), inside


@pytest.mark.parametrize(
    "code",
    [
        "",
        "RETAIL = None",
        "from elsewhere import RETAIL",
        "class Other:\n    class RETAIL: pass",
        "def f():\n    class RETAIL: pass",
        "if False:\n    class RETAIL: pass",
        "TYPE_CHECKING = False\nif TYPE_CHECKING:\n    class RETAIL: pass",
        "try:\n    import x\nexcept ImportError:\n    class RETAIL: pass",
        "class RETAIL: pass\ndel RETAIL",
        "class RETAIL: pass\nRETAIL = None",
        "for x in y:\n    class RETAIL: pass",
    ],
)
def test_a_handler_that_is_not_there_once_it_is_imported(tmp_path: Path, code: str) -> None:
    (line,) = told(tmp_path, {"router/retail.py": code})
    assert "carried out by router.retail:RETAIL" in line


def test_a_handler_whose_package_can_t_be_imported(tmp_path: Path) -> None:
    members = {name: content for name, content in GOOD.items() if "__init__" not in name}
    contents = read_artifact(put(tmp_path, zipapp(members)))
    assert len(unreachable(contents, entries_of(NOW, "m"), (), "r")) == 1


@pytest.mark.parametrize(
    "code",
    [
        "@wrap\nclass RETAIL(Base, x=1): pass",
        "async def RETAIL(): pass",
        "if x:\n  y=1\ndef RETAIL(): pass",
    ],
)
def test_a_handler_that_is_there(tmp_path: Path, code: str) -> None:
    assert told(tmp_path, {"router/retail.py": code}) == []
    assert told(tmp_path, {"router/retail.pyc": compiled(code)}) == []


@pytest.mark.parametrize(
    ("members", "why"),
    [
        ({"lib.so": b"\x7fELF"}, "neither Python nor JSON"),
        ({"more.zip": b"PK"}, "neither Python nor JSON"),
        ({"x.py": "def"}, "no Python"),
        ({"x.py": b"\0"}, "no Python"),
        ({"x.pyc": b"abcd" + b"\0" * 12}, "another Python"),
        ({"x.pyc": compiled("")[:18]}, "no Python"),
        ({"x.json": "{"}, "no JSON"),
        ({"x.json": "[" * 100_000}, "no JSON"),
    ],
)
def test_what_can_t_be_looked_into_is_never_clean(
    tmp_path: Path, members: dict[str, str | bytes], why: str
) -> None:
    with pytest.raises(NotReadable, match=why):
        told(tmp_path, members)


def test_no_zipapp_a_damaged_one_and_two_members_of_one_name(tmp_path: Path) -> None:
    whole = zipapp(GOOD)
    twice = zipapp({"a.py": "", "b.py": "class PowerPeg: pass"}).replace(b"b.py", b"a.py")
    at = whole.index(b"class RETAIL")
    damaged = whole[:at] + b"X" + whole[at + 1 :]
    for content in (b"#!/bin/sh\n", whole[:-30], damaged, twice):
        with pytest.raises(NotReadable):
            read_artifact(put(tmp_path, content))


@pytest.mark.parametrize(
    ("text", "retired", "named"),
    [
        ("PowerPeg", "POWER_PEG", True),
        ("power.peg", "POWER_PEG", True),
        ("PEG_POWER", "POWER_PEG", False),
        ("superpower_peg", "POWER_PEG", False),
        ("RLP2", "RLP", True),
        ("rlps", "RLP", False),
        ("F_1", "F1", True),
        ("", "A", False),
    ],
)
def test_names_are_compared_by_their_words(text: str, retired: str, *, named: bool) -> None:
    assert names(text, retired) is named


@pytest.mark.parametrize("version", ["2026.0", "2026.1"])
def test_the_router_s_own_builds_are_clean(tmp_path: Path, version: str) -> None:
    release = build(tmp_path / "store", SOURCE, version)
    assert release.manifest.flags is not None
    contents = read_artifact(Path(release.artifact))
    past = [
        entry
        for path in SOURCE.rglob("flags*.yaml")
        for entry in parse_registry(path.read_text("utf-8"), path.name).entries
    ]
    own = entries_of(release.manifest.flags, release.label)
    assert unreachable(contents, own, past, release.label) == ()
    assert contents.tables == (release.manifest.flags.model_dump(mode="json"),)


def test_the_build_of_the_eighth_server_would_be_refused_by_today_s_table(tmp_path: Path) -> None:
    old = build(tmp_path / "store", SOURCE, "2011.4")
    today = build(tmp_path / "store", SOURCE, "2026.1").manifest.flags
    assert old.manifest.flags is not None
    assert today is not None
    found = unreachable(
        read_artifact(Path(old.artifact)),
        entries_of(today, "today"),
        entries_of(old.manifest.flags, "2011.4"),
        "2011.4",
    )
    assert any("router.power_peg:PowerPeg carried out POWER_PEG" in r.text for r in found)
    assert any("router/power_peg.py" in refusal.place for refusal in found)


def test_what_python_would_warn_of_is_read_in_silence(tmp_path: Path) -> None:
    assert told(tmp_path, {"router/x.py": "x = 1 is 1\ny = '\\d'"}) == []
