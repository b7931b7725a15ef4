"""One source, one file: the same bytes anywhere, and only what was chosen."""

from __future__ import annotations

import hashlib
import io
import json
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest
import registry

from .conftest import BUILD, ROOT, build

SOURCE = ROOT / "router_binary"


def contents(artifact: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(io.BytesIO(artifact.read_bytes())) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


@pytest.mark.parametrize("version", ["2026.1", "2026.0", "2012.8", "2011.4"])
def test_two_folders_two_zones_two_seeds_give_one_digest(tmp_path: Path, version: str) -> None:
    elsewhere = tmp_path / "a copy, elsewhere"
    shutil.copytree(SOURCE, elsewhere)
    for path in elsewhere.rglob("*"):
        os.utime(path, (1, 1))
        path.chmod(0o700)
    first = build(version, tmp_path / "one", TZ="Asia/Tokyo", PYTHONHASHSEED="1", LC_ALL="C")
    old = os.umask(0o077)
    try:
        second = build(version, tmp_path / "two", elsewhere, TZ="America/Lima", PYTHONHASHSEED="2")
    finally:
        os.umask(old)
    assert first["sha256"] == second["sha256"]
    assert (tmp_path / "one/router").read_bytes() == (tmp_path / "two/router").read_bytes()
    assert (tmp_path / "two/router").stat().st_mode & 0o777 == 0o755
    assert second["revision"] is None
    assert second["clean"] is None


def test_build_info_tells_the_truth(tmp_path: Path) -> None:
    info = build("2026.1", tmp_path)
    data = (tmp_path / "router").read_bytes()
    assert info == json.loads((tmp_path / "buildinfo.json").read_text())
    assert info["sha256"] == hashlib.sha256(data).hexdigest()
    assert info["size"] == len(data)
    assert data.startswith(b"#!/usr/bin/env -S python3 -IS\n")
    assert info["version_line"] == "router 2026.1"
    assert info["requires"] == ["python3", "ssh-keygen"]
    inside = {
        name[:-3].replace("/", ".") for name in contents(tmp_path / "router") if ".py" in name
    }
    assert set(info["modules"]) == inside
    assert not info["rehearsal_only"]
    for entry in info["flags"]["entries"]:
        assert len(entry["digest"]) == 64


def test_a_changed_source_changes_the_release(tmp_path: Path) -> None:
    changed = tmp_path / "source"
    shutil.copytree(SOURCE, changed)
    first = build("2026.1", tmp_path / "one", changed)
    with (changed / "router" / "wire.py").open("a") as file:
        file.write("# one more line\n")
    assert build("2026.1", tmp_path / "two", changed)["sha256"] != first["sha256"]


def test_today_has_no_code_of_what_was_retired(binaries: dict[str, Path]) -> None:
    files = contents(binaries["2026.1"])
    info = json.loads(files.pop("build.json"))
    for name, text in files.items():
        folded = text.lower().replace(b"_", b"").replace(b" ", b"")
        assert b"powerpeg" not in folded, name
        assert b"rlp" not in folded, name
    retired = {(entry["name"], entry["bit"]) for entry in info["flags"]["entries"]
               if entry["state"] == "reserved"}  # fmt: skip
    assert retired == {("POWER_PEG", 3), ("RLP", 3)}
    named = json.dumps({**info, "flags": [e for e in info["flags"]["entries"]
                                          if e["state"] != "reserved"]})  # fmt: skip
    assert "POWER_PEG" not in named


def test_the_old_build_has_it(binaries: dict[str, Path]) -> None:
    assert "router/power_peg.py" in contents(binaries["2011.4"])
    assert "router/power_peg.py" not in contents(binaries["2012.8"])
    for version in ("2011.4", "2012.8"):
        assert json.loads(contents(binaries[version])["build.json"])["rehearsal_only"]


def refused(tmp_path: Path, source: Path, version: str = "2026.1") -> str:
    done = subprocess.run(
        [sys.executable, BUILD, version, "--out", tmp_path / "out", "--source", source],
        capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert done.returncode == 2, done.stdout
    assert not (tmp_path / "out" / "router").exists()
    return done.stderr


def test_an_unknown_build_names_those_there_are(tmp_path: Path) -> None:
    said = refused(tmp_path, SOURCE, "1999.9")
    assert "there are: 2011.4, 2012.8, 2026.0, 2026.1\n" in said


def test_a_module_that_is_not_chosen_is_missed_at_once(tmp_path: Path) -> None:
    source = tmp_path / "source"
    shutil.copytree(SOURCE, source)
    recipe = source / "builds" / "2026.1.yaml"
    recipe.write_text(recipe.read_text().replace("  - gate\n", ""))
    assert "router.gate" in refused(tmp_path, source)


def test_a_flag_without_code_is_refused(tmp_path: Path) -> None:
    source = tmp_path / "source"
    shutil.copytree(SOURCE, source)
    flags = source / "flags.yaml"
    flags.write_text(flags.read_text().replace("retail:RetailLiquidity", "retail:Nothing"))
    assert "RETAIL_LIQUIDITY" in refused(tmp_path, source)


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("bit: 4", "bit: 3", "reserved for ever"),
        ("bit: 4", "bit: 16", "0 to 15"),
        ("bit: 4", "bit: -1", "0 to 15"),
        ("bit: 4", "bit: on", "0 to 15"),
        ("bit: 4", "bit: 4.0", "0 to 15"),
        ("bit: 4", "bit: 1", "used twice"),
        ("name: ISO", "name: HIDDEN", "used twice"),
        ("name: ISO", "name: POWER_PEG", "used twice"),
        ("name: ISO", "name: on", "name must be"),
        ("    owner: retail desk\n", "", "keys must be"),
        ("    owner: retail desk\n", "    owner: a\n    owner: b\n", "twice"),
        ("owner: retail desk", 'owner: ""', "owner must be"),
        ("activation: runtime", "activation: sometimes", "activation"),
        ("requires: [parity]", "requires: []", "requires"),
        ("schema: 1", "schema: 2", "schema 1"),
        ("owner: retail desk", "owner: &a x", "retail"),
        ("meaning: Children rest", "meaning: *a", "aliases"),
    ],
)
def test_a_bad_registry_is_refused(tmp_path: Path, old: str, new: str, says: str) -> None:
    text = (SOURCE / "flags.yaml").read_text()
    assert old in text
    path = tmp_path / "flags.yaml"
    path.write_text(text.replace(old, new, 1))
    if new == "owner: &a x":  # an anchor that nobody refers to changes nothing
        assert registry.load_table(path)
        return
    with pytest.raises(registry.RegistryError, match=says):
        registry.load_table(path)


def test_meaning_digests_follow_the_meaning_only(tmp_path: Path) -> None:
    def table(text: str) -> dict[str, Any]:
        path = tmp_path / "flags.yaml"
        path.write_text(text)
        found: dict[str, Any] = registry.load_table(path)
        return found

    text = (SOURCE / "flags.yaml").read_text()
    base = table(text)
    assert (
        table(text.replace("owner: retail desk", "owner: someone else"))["table"] == base["table"]
    )
    assert table("# a comment\n" + text)["table"] == base["table"]
    assert table(text.replace("being displayed", "being shown"))["table"] != base["table"]
    assert (
        table(text.replace("router.terms:hidden", "router.terms:sweep"))["table"] != base["table"]
    )
