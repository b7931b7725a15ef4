"""What CI refuses, an operator with a laptop can't do either: the same code says so."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest

from deploytool.errors import InputError, Refused
from deploytool.gate.check_deploy import check_deploy
from deploytool.release.build import build
from deploytool.release.model import Release
from deploytool.release.store import add
from tests.unit.registry.artifacts import manifest, put, table, zipapp
from tests.unit.registry.registries import flag, registry, reserved, runtime

from .repository import FLEET, GateRepository

ROOT = Path(__file__).parents[3]


@pytest.fixture
def release(repository: GateRepository) -> Release:
    made = build(repository.request.store, repository.path("app"), "1")
    repository.rehearse(release=str(made.digest))
    return made


def refusal(repository: GateRepository, release: Release) -> Refused:
    with pytest.raises(Refused) as caught:
        check_deploy(repository.path(FLEET), release, repository.request.store, time.time())
    assert caught.value.details
    return caught.value


def other(repository: GateRepository, text: str, version: str = "9", code: str = "") -> Release:
    """Another release in the operator's store, with another registry."""
    content = zipapp({"__main__.py": f"# {version}\n{code}", "router/__init__.py": ""})
    said = manifest(content, table(text), version)
    return add(repository.request.store, put(repository.folder / "made" / version, content), said)


def test_what_keeps_every_rule_is_let_through(repository: GateRepository, release: Release) -> None:
    check_deploy(repository.path(FLEET), release, repository.request.store, time.time())


def test_what_was_not_rehearsed_is_refused(repository: GateRepository, release: Release) -> None:
    for path in repository.path("records").iterdir():
        path.unlink()
    error = refusal(repository, release)
    assert error.rule == "GATE_REHEARSED"
    assert error.exit_code == 3
    assert "healthy was not rehearsed" in error.details[0]
    assert "deploytool rehearse --fleet container" in error.details[0]


def test_an_old_rehearsal_is_refused(repository: GateRepository, release: Release) -> None:
    with pytest.raises(Refused, match="may not be deployed"):
        check_deploy(
            repository.path(FLEET), release, repository.request.store, time.time() + 15 * 86_400
        )


def test_a_fleet_that_demands_no_rehearsal_gets_none(
    repository: GateRepository, release: Release
) -> None:
    repository.change(FLEET, "rehearsal:\n  records: ../records\n  signers: signers\n", "")
    check_deploy(repository.path(FLEET), release, repository.request.store, time.time())


def test_a_throwaway_fleet_is_exempt(repository: GateRepository, release: Release) -> None:
    for path in repository.path("records").iterdir():
        path.unlink()
    repository.change(FLEET, "expect: 8", "throwaway: true\nexpect: 8")
    repository.change(FLEET, "  connect_timeout_s: 5\n", "")
    check_deploy(repository.path(FLEET), release, repository.request.store, time.time())


def test_uncommitted_changes_are_refused(repository: GateRepository) -> None:
    repository.change("app/router/terms.py", "Hides", "Hides it")
    dirty = build(repository.request.store, repository.path("app"), "1")
    repository.rehearse(release=str(dirty.digest))
    assert refusal(repository, dirty).rule == "GATE_MANIFEST"


def test_the_inventory_is_held_to_the_same_rules(
    repository: GateRepository, release: Release
) -> None:
    repository.change(FLEET, "membership:\n  command: [gate, members]\n  timeout_s: 5\n", "")
    repository.change("inventories/known_hosts", "192.0.2.5 ", "192.0.2.55 ")
    error = refusal(repository, release)
    assert error.rule == "GATE_INVENTORY"
    assert len(error.details) == 2


def test_a_wrong_inventory_is_bad_input(repository: GateRepository, release: Release) -> None:
    repository.change(FLEET, "expect: 8", "expect: 9")
    with pytest.raises(InputError):
        check_deploy(repository.path(FLEET), release, repository.request.store, time.time())


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
    text: str, rule: str, repository: GateRepository, release: Release
) -> None:
    other(repository, text)
    error = refusal(repository, release)
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
    text: str, repository: GateRepository, release: Release
) -> None:
    other(repository, text)
    check_deploy(repository.path(FLEET), release, repository.request.store, time.time())


def test_retired_code_in_the_artifact_is_refused(repository: GateRepository) -> None:
    repository.change("app/router/terms.py", '"""Hides."""', "return PowerPeg")
    repository.commit()
    bad = build(repository.request.store, repository.path("app"), "1")
    repository.rehearse(release=str(bad.digest))
    error = refusal(repository, bad)
    assert error.rule == "GATE_RETIRED_CODE"
    assert "PowerPeg" in error.details[0]


def test_a_binary_that_is_not_python_is_not_looked_into(repository: GateRepository) -> None:
    """It lists no modules and has no flags: what can't be asked of it is not asked."""
    content = b"#!/bin/sh\necho router 1\n"
    made = add(
        repository.request.store,
        put(repository.folder / "made/sh", content),
        manifest(content, None),
    )
    repository.rehearse(release=str(made.digest))
    check_deploy(repository.path(FLEET), made, repository.request.store, time.time())


@pytest.mark.parametrize("command", ["plan", "deploy"])
def test_the_commands_ask_before_they_touch_a_host(
    command: str, repository: GateRepository, release: Release
) -> None:
    """The hosts of this inventory are nowhere: had one been asked, it would be another error."""
    for path in repository.path("records").iterdir():
        path.unlink()
    words = [command, "-i", str(repository.path(FLEET)), str(release.digest)]
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "deploytool.cli.main",
            *words,
            "--store",
            str(repository.request.store),
        ],
        capture_output=True,
        text=True,
        timeout=60,
        cwd=repository.folder,
        env={"PATH": "/usr/local/bin:/usr/bin:/bin", "HOME": "/", "PYTHONPATH": str(ROOT)},
    )
    assert done.returncode == 3, done.stderr
    assert "GATE_REHEARSED" in done.stderr
