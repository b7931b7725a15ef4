"""What can't be gated is refused: each check that could not be held says so, and why."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from deploytool.errors import InputError, Refused
from deploytool.gate.model import Check, Finding, Report, Result
from deploytool.gate.rules import settle, verdict
from deploytool.release.store import add
from tests.unit.registry.artifacts import manifest, put, table, zipapp
from tests.unit.registry.registries import registry, runtime

from .ground import Ground, refused

HISTORY = (Check.FLAGS, Check.MANIFEST)


def said(report: Report, check: Check) -> str:
    (result,) = (item for item in report.results if item.check is check)
    assert not result.passed
    return " ".join(map(str, result.findings))


def test_no_check_at_all_proves_nothing() -> None:
    error = verdict(Report((), tuple(Check)), "again")
    assert isinstance(error, InputError)


def test_a_check_that_looked_at_nothing_fails() -> None:
    nothing = settle(Check.FLAGS, Result(Check.FLAGS, (), (), 0.0), "flags.yaml")
    assert not nothing.passed
    assert "no evidence" in nothing.findings[0].text
    assert verdict(Report((nothing,), ()), "again") is not None


def test_what_is_refused_outweighs_what_is_unknown() -> None:
    unknown = Finding("GATE_FLAGS", "a", 1, "text", "remedy", unknown=True)
    known = replace(unknown, rule="GATE_MANIFEST", unknown=False)
    one = Result(Check.FLAGS, (), (unknown,), 0.0)
    two = Result(Check.MANIFEST, ("x",), (known,), 0.0)
    only_unknown = verdict(Report((one,), ()), "again")
    both = verdict(Report((one, two), ()), "again")
    assert isinstance(only_unknown, InputError)
    assert isinstance(both, Refused)
    assert both.rule == "GATE_MANIFEST"
    assert both.exit_code == 3


def test_a_folder_that_is_no_repository(ground: Ground) -> None:
    shutil.rmtree(ground.path(".git"))
    report = ground.run()
    assert set(refused(report)) >= {"GATE_FLAGS", "GATE_MANIFEST", "GATE_INVENTORY"}
    assert "not in a git repository" in said(report, Check.FLAGS)
    assert isinstance(verdict(report, "again"), InputError)


def test_a_repository_without_history(ground: Ground) -> None:
    shutil.rmtree(ground.path(".git"))
    ground.git("init", "-q", "-b", "main")
    report = ground.run(*HISTORY)
    assert "no branch 'main' with a commit" in said(report, Check.FLAGS)
    assert "Nothing was ever committed" in said(report, Check.MANIFEST)


def test_a_shallow_clone(ground: Ground, tmp_path: Path) -> None:
    ground.commit()
    shallow = tmp_path / "shallow"
    ground.git("clone", "-q", "--depth", "1", f"file://{ground.folder}", str(shallow))
    report = Ground(shallow, ground.key).run(*HISTORY, branch="HEAD")
    for check in HISTORY:
        assert "is shallow" in said(report, check)
        assert "fetch --unshallow" in said(report, check)


def test_a_detached_head_needs_the_release_branch_named(ground: Ground) -> None:
    ground.git("checkout", "-q", "--detach")
    report = ground.run(branch=None)
    assert set(refused(report)) == {"GATE_FLAGS", "GATE_RETIRED_CODE"}
    assert "detached" in said(report, Check.FLAGS)
    assert "--branch main" in said(report, Check.FLAGS)
    assert refused(ground.run(branch="main")) == {}


@pytest.mark.parametrize("hidden", [False, True], ids=["plain", "hidden from the index"])
def test_a_dirty_tree(hidden: bool, ground: Ground) -> None:
    if hidden:
        ground.git("update-index", "--assume-unchanged", "app/router/terms.py")
    ground.change("app/router/terms.py", "Hides", "Hides it")
    ground.rehearse()
    report = ground.run()
    assert set(refused(report)) == {"GATE_MANIFEST"}
    assert "app/router/terms.py:1: GATE_MANIFEST" in said(report, Check.MANIFEST)


def test_a_file_that_git_ignores_is_in_no_commit(ground: Ground) -> None:
    """The builder's own look at the tree says that it is clean; the artifact says otherwise."""
    ground.git("rm", "-q", "--cached", "app/router/terms.py")
    ground.change(".gitignore", "__pycache__/", "__pycache__/\n/app/router/terms.py")
    ground.commit()
    report = ground.run()
    assert set(refused(report)) == {"GATE_MANIFEST"}
    assert "router/terms.py in router 1" in said(report, Check.MANIFEST)
    assert "app/router/terms.py:1" in said(report, Check.MANIFEST)


def test_a_submodule_in_the_source(ground: Ground, tmp_path: Path) -> None:
    other = tmp_path / "other"
    ground.git("init", "-q", str(other))
    ground.git("-C", str(other), "commit", "-q", "--allow-empty", "-m", "x")
    ground.git("submodule", "--quiet", "add", str(other), "app/vendored")
    ground.commit()
    report = ground.run()
    assert set(refused(report)) == {"GATE_MANIFEST"}
    assert "app/vendored is a submodule" in said(report, Check.MANIFEST)


def test_a_checkout_that_is_a_submodule(ground: Ground, tmp_path: Path) -> None:
    around = tmp_path / "around"
    ground.git("init", "-q", str(around))
    ground.git("-C", str(around), "submodule", "--quiet", "add", str(ground.folder), "inner")
    report = Ground(around / "inner", ground.key).run(Check.MANIFEST, branch="HEAD")
    assert "is a submodule of" in said(report, Check.MANIFEST)


def test_a_registry_that_does_not_parse_is_named_by_line(ground: Ground) -> None:
    ground.change("app/flags.yaml", "activation: always", "activation: sometimes")
    ground.commit()
    report = ground.run()
    line = ground.line("app/flags.yaml", "sometimes")
    (finding,) = refused(report)["GATE_FLAGS"]
    assert (finding.path, finding.line, finding.unknown) == ("app/flags.yaml", line, True)
    assert {"GATE_RETIRED_CODE", "GATE_MANIFEST", "GATE_REPRODUCIBLE"} <= set(refused(report))
    assert isinstance(verdict(report, "again"), Refused | InputError)


@pytest.mark.parametrize("off_s", [-86_400, -900])
def test_a_clock_that_is_behind_says_nothing_about_ages(off_s: int, ground: Ground) -> None:
    report = ground.run(now=ground.wish.now + off_s)
    assert set(refused(report)) == {"GATE_DEAD_CODE", "GATE_REHEARSED"}
    for check in (Check.DEAD_CODE, Check.REHEARSED):
        assert "clock says" in said(report, check)


def test_no_inventory_is_no_pass(ground: Ground) -> None:
    ground.git("rm", "-q", "inventories/fleet.yaml")
    ground.commit()
    report = ground.run()
    assert set(refused(report)) == {"GATE_INVENTORY", "GATE_REHEARSED"}
    assert "no inventory in the repository" in said(report, Check.INVENTORY)


def test_an_inventory_is_found_wherever_it_lies(ground: Ground) -> None:
    ground.git("mv", "inventories", "elsewhere")
    ground.change("elsewhere/fleet.yaml", "expect: 8", "expect: 9")
    ground.commit()
    report = ground.run()
    (finding,) = refused(report)["GATE_INVENTORY"]
    assert (finding.path, finding.line) == ("elsewhere/fleet.yaml", 2)
    assert "8 hosts are listed" in finding.text


def test_any_yaml_in_a_folder_of_inventories_has_to_be_one(ground: Ground) -> None:
    ground.write("inventories/other.yaml", "a: b\n")
    ground.commit()
    report = ground.run()
    assert set(refused(report)) == {"GATE_INVENTORY", "GATE_REHEARSED"}
    for check in (Check.INVENTORY, Check.REHEARSED):
        assert "inventories/other.yaml:1" in said(report, check)


def test_every_duplicate_address_is_named(ground: Ground) -> None:
    ground.change("inventories/fleet.yaml", "192.0.2.8}", "192.0.2.7}")
    ground.commit()
    found = refused(ground.run(Check.INVENTORY))["GATE_INVENTORY"]
    lines = [ground.line("inventories/fleet.yaml", f"router{number}:") for number in (7, 8)]
    assert [item.line for item in found] == lines


def test_a_build_that_fails_leaves_the_rules_their_say(ground: Ground) -> None:
    """The rule that is broken is named, though nothing can be built of such a registry."""
    ground.change("app/flags.yaml", "bit: 4", "bit: 3")
    ground.commit()
    report = ground.run()
    rules = {item.rule for item in refused(report)["GATE_FLAGS"]}
    assert {"FLAG_BIT_NO_REUSE"} <= rules
    assert "reserved for ever" in said(report, Check.RETIRED_CODE)
    assert isinstance(verdict(report, "again"), Refused)


def test_a_release_that_is_not_of_this_commit(ground: Ground) -> None:
    """The same bytes from an older commit: their manifest says another revision."""
    release = ground.release()
    ground.write("README", "more")
    ground.commit()
    report = ground.run(release=release)
    assert set(refused(report)) == {"GATE_MANIFEST"}
    assert "was built from" in said(report, Check.MANIFEST)


def test_a_release_that_is_not_what_the_source_gives(ground: Ground) -> None:
    release = ground.release()
    ground.change("app/router/terms.py", "Hides", "Hides it")
    ground.commit()
    report = ground.run(Check.REPRODUCIBLE, release=release)
    assert "router/terms.py" in said(report, Check.REPRODUCIBLE)
    assert "what is to be released is" in said(report, Check.REPRODUCIBLE)


def test_a_release_with_another_registry_is_held_against_the_past_too(ground: Ground) -> None:
    """It is in the store, built of something else: the registry that is checked out is fine."""
    content = zipapp({"__main__.py": "# 9", "router/__init__.py": ""})
    said = manifest(content, table(registry(runtime("SLOW", 4))), "9")
    made = add(ground.wish.store, put(ground.folder.parent / "made", content), said)
    found = refused(ground.run(Check.FLAGS, release=str(made.digest)))["GATE_FLAGS"]
    assert "FLAG_BIT_NO_REUSE" in {item.rule for item in found}


def test_a_build_whose_recipe_lies_deeper_is_opened_too(ground: Ground) -> None:
    """The builder finds it in history/, so it can be released."""
    ground.write("app/history/peg.py", "class PowerPeg:\n    pass\n")
    recipe = ground.path("app/builds/1.yaml").read_text().replace('"1"', '"9"')
    recipe = recipe.replace("registry: ", "registry: ../").replace("{}", "{peg: peg.py}")
    ground.write("app/history/builds/9.yaml", recipe)
    ground.commit()
    found = refused(ground.run(Check.RETIRED_CODE))["GATE_RETIRED_CODE"]
    assert ("app/history/peg.py", 1) in {(item.path, item.line) for item in found}


def test_a_builder_that_writes_down_the_time_is_found_out(ground: Ground) -> None:
    old = '"strategies": recipe["strategies"],'
    ground.change("app/build.py", old, '"strategies": [int(__import__("time").time())],')
    ground.commit()
    report = ground.run(Check.REPRODUCIBLE, gap_s=1.1)
    assert "two builds of 1 differ in build.json" in said(report, Check.REPRODUCIBLE)


def test_a_source_without_a_builder_can_t_be_shown_to_be_reproducible(ground: Ground) -> None:
    release = ground.release()
    ground.git("rm", "-q", "app/build.py")
    ground.commit()
    report = ground.run(Check.REPRODUCIBLE, release=release)
    assert "There is no build.py" in said(report, Check.REPRODUCIBLE)


def test_the_manifest_of_a_release_that_lies_is_refused(ground: Ground) -> None:
    release = ground.release()
    manifest = ground.path("store") / release / "release.json"
    manifest.chmod(0o644)
    text = manifest.read_text()
    for old, new, says in (
        ('"clean":true', '"clean":false', "uncommitted changes"),
        ('"router.fast",', "", "router.fast of router 1"),
        ('"rehearsal_only":false', '"rehearsal_only":true', "rehearsals only"),
    ):
        assert old in text
        manifest.write_text(text.replace(old, new, 1))
        report = ground.run(Check.MANIFEST, release=release)
        assert says in said(report, Check.MANIFEST)
