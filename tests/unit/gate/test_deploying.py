"""What CI refuses, an operator with a laptop can't do either: the same code says so."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest

from deploytool.errors import InputError, Refused
from deploytool.gate.deploying import hold
from deploytool.release.build import build
from deploytool.release.model import Release
from deploytool.release.store import add
from tests.unit.registry.artifacts import manifest, put, table, zipapp
from tests.unit.registry.registries import flag, registry, reserved, runtime

from .ground import FLEET, Ground

ROOT = Path(__file__).parents[3]


@pytest.fixture
def release(ground: Ground) -> Release:
    made = build(ground.wish.store, ground.path("app"), "1")
    ground.rehearse(release=str(made.digest))
    return made


def refusal(ground: Ground, release: Release) -> Refused:
    with pytest.raises(Refused) as caught:
        hold(ground.path(FLEET), release, ground.wish.store, time.time())
    assert caught.value.details
    return caught.value


def other(ground: Ground, text: str, version: str = "9", code: str = "") -> Release:
    """Another release in the operator's store, with another registry."""
    content = zipapp({"__main__.py": f"# {version}\n{code}", "router/__init__.py": ""})
    said = manifest(content, table(text), version)
    return add(ground.wish.store, put(ground.folder / "made" / version, content), said)


def test_what_keeps_every_rule_is_let_through(ground: Ground, release: Release) -> None:
    hold(ground.path(FLEET), release, ground.wish.store, time.time())


def test_what_was_not_rehearsed_is_refused(ground: Ground, release: Release) -> None:
    for path in ground.path("records").iterdir():
        path.unlink()
    error = refusal(ground, release)
    assert error.rule == "GATE_REHEARSED"
    assert error.exit_code == 3
    assert "healthy was not rehearsed" in error.details[0]
    assert "deploytool rehearse --fleet container" in error.details[0]


def test_an_old_rehearsal_is_refused(ground: Ground, release: Release) -> None:
    with pytest.raises(Refused, match="may not be deployed"):
        hold(ground.path(FLEET), release, ground.wish.store, time.time() + 15 * 86_400)


def test_a_fleet_that_demands_no_rehearsal_gets_none(ground: Ground, release: Release) -> None:
    ground.change(FLEET, "rehearsal:\n  records: ../records\n  signers: signers\n", "")
    hold(ground.path(FLEET), release, ground.wish.store, time.time())


def test_a_throwaway_fleet_is_exempt(ground: Ground, release: Release) -> None:
    for path in ground.path("records").iterdir():
        path.unlink()
    ground.change(FLEET, "expect: 8", "throwaway: true\nexpect: 8")
    ground.change(FLEET, "  connect_timeout_s: 5\n", "")
    hold(ground.path(FLEET), release, ground.wish.store, time.time())


def test_uncommitted_changes_are_refused(ground: Ground) -> None:
    ground.change("app/router/terms.py", "Hides", "Hides it")
    dirty = build(ground.wish.store, ground.path("app"), "1")
    ground.rehearse(release=str(dirty.digest))
    assert refusal(ground, dirty).rule == "GATE_MANIFEST"


def test_the_inventory_is_held_to_the_same_rules(ground: Ground, release: Release) -> None:
    ground.change(FLEET, "membership:\n  command: [gate, members]\n  timeout_s: 5\n", "")
    ground.change("inventories/known_hosts", "192.0.2.5 ", "192.0.2.55 ")
    error = refusal(ground, release)
    assert error.rule == "GATE_INVENTORY"
    assert len(error.details) == 2


def test_a_wrong_inventory_is_bad_input(ground: Ground, release: Release) -> None:
    ground.change(FLEET, "expect: 8", "expect: 9")
    with pytest.raises(InputError):
        hold(ground.path(FLEET), release, ground.wish.store, time.time())


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        (registry(flag("SLOW", 4)), "FLAG_BIT_NO_REUSE"),
        (registry(reserved("SLOW", 4)), "FLAG_BIT_NO_REUSE"),
        (registry(runtime("FAST", 9, handler="router.fast:Fast")), "FLAG_NAME_NO_REUSE"),
        (registry(runtime("FAST", 4, handler="router.fast:Other")), "FLAG_SAME_SEMANTICS"),
        (
            registry(runtime("F", 4, handler="router.fast:Fast", meaning="Does fast.")),
            "FLAG_SAME_NAME",
        ),
    ],
)
def test_a_bit_that_another_release_reads_otherwise_is_refused(
    text: str, rule: str, ground: Ground, release: Release
) -> None:
    other(ground, text)
    error = refusal(ground, release)
    assert error.rule == "GATE_FLAGS"
    assert rule in error.details[0]


@pytest.mark.parametrize(
    "text",
    [
        registry(flag("HIDDEN", 0, handler="router.terms:hidden")),
        registry(flag("FAST", 4, handler="router.fast:Fast"), flag("NEWER", 8)),
        registry(reserved("FAST", 4)),
    ],
    ids=["an older one", "a newer one that made it permanent", "a newer one that retired it"],
)
def test_going_back_to_this_release_is_no_reuse(
    text: str, ground: Ground, release: Release
) -> None:
    other(ground, text)
    hold(ground.path(FLEET), release, ground.wish.store, time.time())


def test_retired_code_in_the_artifact_is_refused(ground: Ground) -> None:
    ground.change("app/router/terms.py", '"""Hides."""', "return PowerPeg")
    ground.commit()
    bad = build(ground.wish.store, ground.path("app"), "1")
    ground.rehearse(release=str(bad.digest))
    error = refusal(ground, bad)
    assert error.rule == "GATE_RETIRED_CODE"
    assert "PowerPeg" in error.details[0]


def test_a_binary_that_is_not_python_is_not_looked_into(ground: Ground) -> None:
    """It lists no modules and has no flags: what can't be asked of it is not asked."""
    content = b"#!/bin/sh\necho router 1\n"
    made = add(ground.wish.store, put(ground.folder / "made/sh", content), manifest(content, None))
    ground.rehearse(release=str(made.digest))
    hold(ground.path(FLEET), made, ground.wish.store, time.time())


@pytest.mark.parametrize("command", ["plan", "deploy"])
def test_the_commands_ask_before_they_touch_a_host(
    command: str, ground: Ground, release: Release
) -> None:
    """The hosts of this inventory are nowhere: had one been asked, it would be another error."""
    for path in ground.path("records").iterdir():
        path.unlink()
    words = [command, "-i", str(ground.path(FLEET)), str(release.digest)]
    done = subprocess.run(
        [sys.executable, "-m", "deploytool.cli.main", *words, "--store", str(ground.wish.store)],
        capture_output=True,
        text=True,
        timeout=60,
        cwd=ground.folder,
        env={"PATH": "/usr/local/bin:/usr/bin:/bin", "HOME": "/", "PYTHONPATH": str(ROOT)},
    )
    assert done.returncode == 3, done.stderr
    assert "GATE_REHEARSED" in done.stderr
