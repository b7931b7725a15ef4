"""Ways to give a used bit away that nobody should get through, each tried."""

from __future__ import annotations

from pathlib import Path

import pytest

from deploytool.registry.artifact import NotReadable, read_artifact
from deploytool.registry.lint import Linted, LintRequest, lint
from deploytool.registry.model import FlagEntry
from deploytool.registry.rules import FlagRule, between
from deploytool.registry.source import parse_registry

from .artifacts import put, zipapp
from .conftest import Repo
from .registries import BEFORE, INCIDENT, POWER_PEG, RLP, flag, registry, reserved, runtime

HIDDEN = flag("HIDDEN", 0)


def linted(repo: Repo, registry: Path) -> Linted:
    return lint(LintRequest(registry, repo.folder, None, repo.folder / "no store"))


def rules(repo: Repo, name: str = "app/flags.yaml") -> set[FlagRule]:
    found = linted(repo, repo.folder / name)
    assert not found.unread
    return {refusal.rule for refusal in found.refusals}


# --- the registry is moved out of sight -----------------------------------------------------------


@pytest.mark.parametrize("new", ["app/bits.yaml", "elsewhere/flags.yaml", "bits.yml"])
def test_p4_a_registry_that_went_and_came_back_by_another_name(new: str, repo: Repo) -> None:
    repo.commit(BEFORE)
    repo.write(None)
    repo.commit("nothing", "README")
    repo.commit(INCIDENT, new)
    assert FlagRule.BIT_NO_REUSE in rules(repo, new)


def test_p4_a_move_that_git_does_not_see_as_one(repo: Repo) -> None:
    """So much is written around it in the same commit that nothing is alike."""
    repo.commit(BEFORE)
    repo.write(None)
    padding = "".join(f"# {number * 7919:x} {number:b}\n" for number in range(4000))
    repo.commit(padding + INCIDENT, "other/bits.yaml")
    assert FlagRule.BIT_NO_REUSE in rules(repo, "other/bits.yaml")


def test_p4_a_copy_beside_one_that_is_left_to_be_looked_at(repo: Repo) -> None:
    repo.commit(BEFORE)
    repo.commit(INCIDENT, "app/bits.yaml")
    assert FlagRule.BIT_NO_REUSE in rules(repo, "app/bits.yaml")


def test_the_registry_of_another_artifact_is_not_this_one_s_past(repo: Repo) -> None:
    repo.commit(BEFORE, "peg/flags.yaml")
    repo.commit(INCIDENT, "rlp/flags.yaml")
    assert rules(repo, "rlp/flags.yaml") == set()


# --- a build brings a registry of its own ---------------------------------------------------------

RECIPE = 'version: "9"\nregistry: own.yaml\nrehearsal_only: {only}\n'


@pytest.mark.parametrize(
    ("only", "expected"), [("false", {FlagRule.BIT_NO_REUSE}), ("true", set())]
)
def test_p4_a_build_with_its_own_registry_gives_no_bit_away(
    only: str, expected: set[FlagRule], repo: Repo
) -> None:
    """Today's registry is left as it is: it keeps bit 3 reserved, and nobody reads it."""
    repo.commit(registry(HIDDEN, reserved("POWER_PEG", 3), reserved("RLP", 3)))
    repo.write(registry(HIDDEN, RLP), "app/own.yaml")
    repo.write(RECIPE.format(only=only), "app/builds/9.yaml")
    assert rules(repo) == expected
    for refusal in linted(repo, repo.registry).refusals:
        lines = (repo.folder / "app/own.yaml").read_text().splitlines()
        line = next(number for number, text in enumerate(lines, 1) if "name: RLP" in text)
        assert refusal.place == f"{repo.folder / 'app/own.yaml'}:{line}"


def test_an_older_build_that_lacks_what_came_later_is_fine(repo: Repo) -> None:
    repo.write(registry(HIDDEN), "app/own.yaml")
    repo.write(RECIPE.format(only="false"), "app/builds/9.yaml")
    repo.commit(registry(HIDDEN, runtime("FAST", 4), reserved("POWER_PEG", 3)))
    assert rules(repo) == set()


# --- between two builds ---------------------------------------------------------------------------


def entries(*flags: str) -> tuple[FlagEntry, ...]:
    return parse_registry(registry(*flags), "flags.yaml").entries


FAST = runtime("FAST", 4)
AGREE = [
    ("nothing in common", (HIDDEN,), (FAST,)),
    ("the same", (HIDDEN, FAST), (HIDDEN, FAST)),
    ("retired in one", (FAST,), (reserved("FAST", 4),)),
    ("permanent in one", (FAST,), (flag("FAST", 4),)),
]
DIFFER = [
    ("a bit", (POWER_PEG,), (RLP,), FlagRule.BIT_NO_REUSE),
    ("a reserved bit", (RLP,), (reserved("POWER_PEG", 3),), FlagRule.BIT_NO_REUSE),
    ("a name", (FAST,), (runtime("FAST", 5),), FlagRule.NAME_NO_REUSE),
    ("a meaning", (FAST,), (runtime("FAST", 4, meaning="Else."),), FlagRule.SAME_SEMANTICS),
    ("a handler", (FAST,), (runtime("FAST", 4, handler="router.x:X"),), FlagRule.SAME_SEMANTICS),
]


@pytest.mark.parametrize(("one", "two"), [case[1:] for case in AGREE], ids=[c[0] for c in AGREE])
def test_builds_that_agree_may_follow_each_other_either_way(
    one: tuple[str, ...], two: tuple[str, ...]
) -> None:
    assert between(entries(*one), entries(*two), "x") == ()
    assert between(entries(*two), entries(*one), "x") == ()


@pytest.mark.parametrize(
    ("one", "two", "rule"), [case[1:] for case in DIFFER], ids=[case[0] for case in DIFFER]
)
def test_builds_that_differ_are_told_apart_from_the_side_that_obeys(
    one: tuple[str, ...], two: tuple[str, ...], rule: FlagRule
) -> None:
    assert {refusal.rule for refusal in between(entries(*one), entries(*two), "x")} == {rule}


# --- the artifact is not what it seems ------------------------------------------------------------

MEMBERS: dict[str, str | bytes] = {"__main__.py": "x = 1\n"}


def unreadable(tmp_path: Path, content: bytes) -> str:
    with pytest.raises(NotReadable) as caught:
        read_artifact(put(tmp_path, content))
    return str(caught.value)


def test_a_script_before_the_zip_is_what_would_run(tmp_path: Path) -> None:
    inside = zipapp(MEMBERS)
    head = inside.index(b"PK")
    script = b"#!/bin/sh\nexec /usr/bin/power-peg\n"
    assert "before what is packed" in unreadable(tmp_path, script + inside[head:])
    assert "before what is packed" in unreadable(tmp_path, b"#!python\nmore\n" + inside[head:])
    assert read_artifact(put(tmp_path, inside)).modules
    assert read_artifact(put(tmp_path, inside[head:])).modules


@pytest.mark.parametrize("coding", ["utf-7", "latin-1", "rot13"])
def test_code_in_an_encoding_that_others_read_otherwise(coding: str, tmp_path: Path) -> None:
    text = f"# -*- coding: {coding} -*-\nx = '+AFAAZQBn-'\n"
    said = unreadable(tmp_path, zipapp({**MEMBERS, "router/x.py": text}))
    assert "router/x.py" in said
