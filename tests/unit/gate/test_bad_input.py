"""What can't be gated is refused: each check that could not be held says so, and why."""

from __future__ import annotations

import shutil
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from deploytool.errors import InputError, Refused
from deploytool.gate.model import Check, GateFinding, GateReport, Result
from deploytool.gate.rules import settle, verdict
from deploytool.release.store import add
from tests.unit.registry.artifacts import manifest, put, table, zipapp
from tests.unit.registry.registries import registry, runtime

from .repository import GateRepository, refused

pytestmark = pytest.mark.slow

HISTORY = (Check.FLAGS, Check.MANIFEST)


def said(report: GateReport, check: Check) -> str:
    (result,) = (item for item in report.results if item.check is check)
    assert not result.passed
    return " ".join(map(str, result.findings))


def test_no_check_at_all_proves_nothing() -> None:
    error = verdict(GateReport((), tuple(Check)), "again")
    assert isinstance(error, InputError)


def test_a_check_that_looked_at_nothing_fails() -> None:
    nothing = settle(Check.FLAGS, Result(Check.FLAGS, (), (), 0.0), "flags.yaml")
    assert not nothing.passed
    assert "no evidence" in nothing.findings[0].text
    assert verdict(GateReport((nothing,), ()), "again") is not None


def test_what_is_refused_outweighs_what_is_unknown() -> None:
    unknown = GateFinding("GATE_FLAGS", "a", 1, "text", "remedy", unknown=True)
    known = replace(unknown, rule="GATE_MANIFEST", unknown=False)
    one = Result(Check.FLAGS, (), (unknown,), 0.0)
    two = Result(Check.MANIFEST, ("x",), (known,), 0.0)
    only_unknown = verdict(GateReport((one,), ()), "again")
    both = verdict(GateReport((one, two), ()), "again")
    assert isinstance(only_unknown, InputError)
    assert isinstance(both, Refused)
    assert both.rule == "GATE_MANIFEST"
    assert both.exit_code == 3


def test_a_folder_that_is_no_repository(repository: GateRepository) -> None:
    shutil.rmtree(repository.path(".git"))
    report = repository.run()
    assert set(refused(report)) >= {"GATE_FLAGS", "GATE_MANIFEST", "GATE_INVENTORY"}
    assert "not in a git repository" in said(report, Check.FLAGS)
    assert isinstance(verdict(report, "again"), InputError)


def test_dead_code_without_vulture(
    repository: GateRepository, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "vulture", None)
    report = repository.run(Check.DEAD_CODE)
    assert "pip install 'deploytool[gate]'" in said(report, Check.DEAD_CODE)
    assert isinstance(verdict(report, "again"), InputError)


def test_a_repository_without_history(repository: GateRepository) -> None:
    shutil.rmtree(repository.path(".git"))
    repository.git("init", "-q", "-b", "main")
    report = repository.run(*HISTORY)
    assert "no branch 'main' with a commit" in said(report, Check.FLAGS)
    assert "Nothing was ever committed" in said(report, Check.MANIFEST)


def test_a_shallow_clone(repository: GateRepository, tmp_path: Path) -> None:
    repository.commit()
    shallow = tmp_path / "shallow"
    repository.git("clone", "-q", "--depth", "1", f"file://{repository.folder}", str(shallow))
    report = GateRepository(shallow, repository.key).run(*HISTORY, branch="HEAD")
    for check in HISTORY:
        assert "is shallow" in said(report, check)
        assert "fetch --unshallow" in said(report, check)


def test_a_detached_head_needs_the_release_branch_named(repository: GateRepository) -> None:
    repository.git("checkout", "-q", "--detach")
    report = repository.run(branch=None)
    assert set(refused(report)) == {"GATE_FLAGS", "GATE_RETIRED_CODE"}
    assert "detached" in said(report, Check.FLAGS)
    assert "--branch main" in said(report, Check.FLAGS)
    assert refused(repository.run(branch="main")) == {}


@pytest.mark.parametrize("hidden", [False, True], ids=["plain", "hidden from the index"])
def test_a_dirty_tree(hidden: bool, repository: GateRepository) -> None:
    if hidden:
        repository.git("update-index", "--assume-unchanged", "app/router/terms.py")
    repository.change("app/router/terms.py", "Hides", "Hides it")
    repository.rehearse()
    report = repository.run()
    assert set(refused(report)) == {"GATE_MANIFEST"}
    assert "app/router/terms.py:1: GATE_MANIFEST" in said(report, Check.MANIFEST)


def test_a_file_that_git_ignores_is_in_no_commit(repository: GateRepository) -> None:
    """The builder's own look at the tree says that it is clean; the artifact says otherwise."""
    repository.git("rm", "-q", "--cached", "app/router/terms.py")
    repository.change(".gitignore", "__pycache__/", "__pycache__/\n/app/router/terms.py")
    repository.commit()
    report = repository.run()
    assert set(refused(report)) == {"GATE_MANIFEST"}
    assert "router/terms.py in router 1" in said(report, Check.MANIFEST)
    assert "app/router/terms.py:1" in said(report, Check.MANIFEST)


def test_a_submodule_in_the_source(repository: GateRepository, tmp_path: Path) -> None:
    other = tmp_path / "other"
    repository.git("init", "-q", str(other))
    repository.git("-C", str(other), "commit", "-q", "--allow-empty", "-m", "x")
    repository.git("submodule", "--quiet", "add", str(other), "app/vendored")
    repository.commit()
    report = repository.run()
    assert set(refused(report)) == {"GATE_MANIFEST"}
    assert "app/vendored is a submodule" in said(report, Check.MANIFEST)


def test_a_checkout_that_is_a_submodule(repository: GateRepository, tmp_path: Path) -> None:
    around = tmp_path / "around"
    repository.git("init", "-q", str(around))
    repository.git(
        "-C", str(around), "submodule", "--quiet", "add", str(repository.folder), "inner"
    )
    report = GateRepository(around / "inner", repository.key).run(Check.MANIFEST, branch="HEAD")
    assert "is a submodule of" in said(report, Check.MANIFEST)


def test_a_registry_that_does_not_parse_is_named_by_line(repository: GateRepository) -> None:
    repository.change("app/flags.yaml", "activation: always", "activation: sometimes")
    repository.commit()
    report = repository.run()
    line = repository.line("app/flags.yaml", "sometimes")
    (finding,) = refused(report)["GATE_FLAGS"]
    assert (finding.path, finding.line, finding.unknown) == ("app/flags.yaml", line, True)
    assert {"GATE_RETIRED_CODE", "GATE_MANIFEST", "GATE_REPRODUCIBLE"} <= set(refused(report))
    assert isinstance(verdict(report, "again"), Refused | InputError)


@pytest.mark.parametrize("off_s", [-86_400, -900])
def test_a_clock_that_is_behind_says_nothing_about_ages(
    off_s: int, repository: GateRepository
) -> None:
    report = repository.run(now=repository.request.now + off_s)
    assert set(refused(report)) == {"GATE_DEAD_CODE", "GATE_REHEARSED"}
    for check in (Check.DEAD_CODE, Check.REHEARSED):
        assert "clock says" in said(report, check)


def test_no_inventory_is_no_pass(repository: GateRepository) -> None:
    repository.git("rm", "-q", "inventories/fleet.yaml")
    repository.commit()
    report = repository.run()
    assert set(refused(report)) == {"GATE_INVENTORY", "GATE_REHEARSED"}
    assert "no inventory in the repository" in said(report, Check.INVENTORY)


def test_an_inventory_is_found_wherever_it_lies(repository: GateRepository) -> None:
    repository.git("mv", "inventories", "elsewhere")
    repository.change("elsewhere/fleet.yaml", "expect: 8", "expect: 9")
    repository.commit()
    report = repository.run()
    (finding,) = refused(report)["GATE_INVENTORY"]
    assert (finding.path, finding.line) == ("elsewhere/fleet.yaml", 2)
    assert "8 hosts are listed" in finding.text


def test_any_yaml_in_a_folder_of_inventories_has_to_be_one(repository: GateRepository) -> None:
    repository.write("inventories/other.yaml", "a: b\n")
    repository.commit()
    report = repository.run()
    assert set(refused(report)) == {"GATE_INVENTORY", "GATE_REHEARSED"}
    for check in (Check.INVENTORY, Check.REHEARSED):
        assert "inventories/other.yaml:1" in said(report, check)


def test_every_duplicate_address_is_named(repository: GateRepository) -> None:
    repository.change("inventories/fleet.yaml", "192.0.2.8}", "192.0.2.7}")
    repository.commit()
    found = refused(repository.run(Check.INVENTORY))["GATE_INVENTORY"]
    lines = [repository.line("inventories/fleet.yaml", f"router{number}:") for number in (7, 8)]
    assert [item.line for item in found] == lines


def test_a_build_that_fails_leaves_the_rules_their_say(repository: GateRepository) -> None:
    """The rule that is broken is named, though nothing can be built of such a registry."""
    repository.change("app/flags.yaml", "bit: 4", "bit: 3")
    repository.commit()
    report = repository.run()
    rules = {item.rule for item in refused(report)["GATE_FLAGS"]}
    assert {"FLAG_BIT_NO_REUSE"} <= rules
    assert "reserved for ever" in said(report, Check.RETIRED_CODE)
    assert isinstance(verdict(report, "again"), Refused)


def test_a_release_that_is_not_of_this_commit(repository: GateRepository) -> None:
    """The same bytes from an older commit: their manifest says another revision."""
    release = repository.release()
    repository.write("README", "more")
    repository.commit()
    report = repository.run(release=release)
    assert set(refused(report)) == {"GATE_MANIFEST"}
    assert "was built from" in said(report, Check.MANIFEST)


def test_a_release_that_is_not_what_the_source_gives(repository: GateRepository) -> None:
    release = repository.release()
    repository.change("app/router/terms.py", "Hides", "Hides it")
    repository.commit()
    report = repository.run(Check.REPRODUCIBLE, release=release)
    assert "router/terms.py" in said(report, Check.REPRODUCIBLE)
    assert "what is to be released is" in said(report, Check.REPRODUCIBLE)


def test_a_release_with_another_registry_is_held_against_the_past_too(
    repository: GateRepository,
) -> None:
    """It is in the store, built of something else: the registry that is checked out is fine."""
    content = zipapp({"__main__.py": "# 9", "router/__init__.py": ""})
    said = manifest(content, table(registry(runtime("SLOW", 4))), "9")
    made = add(repository.request.store, put(repository.folder.parent / "made", content), said)
    found = refused(repository.run(Check.FLAGS, release=str(made.digest)))["GATE_FLAGS"]
    assert "FLAG_BIT_NO_REUSE" in {item.rule for item in found}


def test_a_build_whose_recipe_lies_deeper_is_opened_too(repository: GateRepository) -> None:
    """The builder finds it in history/, so it can be released."""
    repository.write("app/history/peg.py", "class PowerPeg:\n    pass\n")
    recipe = repository.path("app/builds/1.yaml").read_text().replace('"1"', '"9"')
    recipe = recipe.replace("registry: ", "registry: ../").replace("{}", "{peg: peg.py}")
    repository.write("app/history/builds/9.yaml", recipe)
    repository.commit()
    found = refused(repository.run(Check.RETIRED_CODE))["GATE_RETIRED_CODE"]
    assert ("app/history/peg.py", 1) in {(item.path, item.line) for item in found}


def test_a_builder_that_writes_down_the_time_is_found_out(repository: GateRepository) -> None:
    old = '"strategies": recipe["strategies"],'
    repository.change("app/build.py", old, '"strategies": [int(__import__("time").time())],')
    repository.commit()
    report = repository.run(Check.REPRODUCIBLE, gap_s=1.1)
    assert "two builds of 1 differ in build.json" in said(report, Check.REPRODUCIBLE)


def test_a_source_without_a_builder_can_t_be_shown_to_be_reproducible(
    repository: GateRepository,
) -> None:
    release = repository.release()
    repository.git("rm", "-q", "app/build.py")
    repository.commit()
    report = repository.run(Check.REPRODUCIBLE, release=release)
    assert "There is no build.py" in said(report, Check.REPRODUCIBLE)


def test_the_manifest_of_a_release_that_lies_is_refused(repository: GateRepository) -> None:
    release = repository.release()
    manifest = repository.path("store") / release / "release.json"
    manifest.chmod(0o644)
    text = manifest.read_text()
    for old, new, says in (
        ('"clean":true', '"clean":false', "uncommitted changes"),
        ('"router.fast",', "", "router.fast of router 1"),
        ('"rehearsal_only":false', '"rehearsal_only":true', "rehearsals only"),
    ):
        assert old in text
        manifest.write_text(text.replace(old, new, 1))
        report = repository.run(Check.MANIFEST, release=release)
        assert says in said(report, Check.MANIFEST)
