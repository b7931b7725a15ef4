"""Where deploytool keeps what it writes: the same place from any folder, and never a stranger's."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from deploytool.home import home

from .test_cli import document, run


@pytest.fixture(autouse=True)
def _nothing_set(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("DEPLOYTOOL_HOME", raising=False)
    monkeypatch.chdir(tmp_path)


def test_a_new_one_is_in_the_working_folder(tmp_path: Path) -> None:
    assert home() == home(tmp_path / "elsewhere" / "fleet.yaml") == Path(".deploytool")


def test_the_nearest_one_above_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / ".deploytool").mkdir()
    (tmp_path / "a" / "b").mkdir(parents=True)
    assert home() == Path(".deploytool")
    monkeypatch.chdir(tmp_path / "a" / "b")
    assert home() == tmp_path / ".deploytool"
    (tmp_path / "a" / ".deploytool").mkdir()
    assert home() == tmp_path / "a" / ".deploytool"


def test_the_inventory_s_comes_before_one_s_own(tmp_path: Path) -> None:
    (tmp_path / ".deploytool").mkdir()
    inventory = tmp_path / "project" / "inventories" / "fleet.yaml"
    (tmp_path / "project" / ".deploytool").mkdir(parents=True)
    inventory.parent.mkdir()
    assert home(inventory) == tmp_path / "project" / ".deploytool"


def test_the_variable_comes_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / ".deploytool").mkdir()
    monkeypatch.setenv("DEPLOYTOOL_HOME", str(tmp_path / "named"))
    assert home() == tmp_path / "named"


def test_a_stranger_s_does_not_count(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / ".deploytool").mkdir()
    (tmp_path / "a").mkdir()
    monkeypatch.chdir(tmp_path / "a")
    uid = os.geteuid() or 4711
    real = os.stat_result

    def owned_by_another(self: Path) -> os.stat_result:
        seen = os.stat(self)  # noqa: PTH116 the method is what is replaced
        return real((*seen[:4], uid + 1, *seen[5:10]))

    monkeypatch.setattr(Path, "stat", owned_by_another)
    assert home() == Path(".deploytool")


def test_a_release_is_found_from_a_folder_below(tmp_path: Path) -> None:
    file = tmp_path / "gateway"
    file.write_text("#!/bin/sh\necho gateway 7.2\n")
    file.chmod(0o755)
    words = ["release", "describe", str(file), "--name", "gateway", "--version", "7.2", "--json"]
    made = document(run(*words, cwd=tmp_path))
    below = tmp_path / "inventories"
    below.mkdir()
    shown = document(run("release", "show", "7.2", "--json", cwd=below))
    assert shown["manifest"] == made["manifest"]
    assert not (below / ".deploytool").exists()
    typed = run("release", "show", "7.2", "--store", ".deploytool/store", "--json", cwd=below)
    assert typed.returncode == 2, "what is typed is meant as it stands"
