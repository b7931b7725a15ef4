"""The verbs that look and stop, on real processes and file systems."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import cast

import pytest

from deploytool.agent.host import AgentHost
from deploytool.agent.model import HostEvidence, Survey
from deploytool.agent.requests import Answer, KillStrays, LookAfterStop, Probe
from deploytool.agent.verbs import evidence, stopping
from tests.agent.whole_host.hosts import ACCOUNT, PYTHON, Place, apart, executes, wait_for
from tests.unable import unable


def payload(_at_most: int, _deadline: float) -> bytes:
    return b""


def look(place: Place, probe: Probe | None = None) -> HostEvidence:
    def take() -> object:
        with place.host() as host:
            return evidence.look(host, probe or Probe()).to_json()

    return HostEvidence.from_json(apart(take))


def stop(place: Place) -> tuple[int, Survey]:
    """Kills the strays; how many, and what is alive after that."""

    def asked(host: AgentHost) -> tuple[Answer, Answer]:
        killed = stopping.kill_strays(host, KillStrays(seconds=5), payload)
        return killed, stopping.survey(host, LookAfterStop(), payload)

    def take() -> object:
        with place.host() as host:
            return [answer.to_json() for answer in asked(host)]

    killed, shown = cast(list[dict[str, object]], apart(take))
    return cast(int, killed["killed"]), Survey.from_json(shown["survey"])


def serve(place: Place) -> tuple[int, Path]:
    """Starts the service in its control group; its main process and its artifact."""
    artifact = place.compiled()
    place.activate(artifact)
    group = place.group()
    main = place.start(place.root / "current" / "router", "600", user=ACCOUNT)
    (group / "cgroup.procs").write_text(str(main))
    place.unit.told = place.unit.told.but(
        main=main, group=f"/{group.name}", active="active", sub="running"
    )
    return main, artifact


def test_p1_a_host_that_serves(place: Place) -> None:
    main, artifact = serve(place)
    shown = look(place)
    release = artifact.parent.name
    assert [(run.pid, run.how, run.sha, run.deleted) for run in shown.runs] == [
        (main, "exe", release, False)
    ]
    assert shown.disk is not None
    assert shown.disk.sha == release
    assert shown.current == f"releases/{release}"
    assert [(p.pid, p.still) for p in shown.processes if p.pid == main] == [(main, True)]
    assert shown.state_writable is True
    assert shown.status is not None
    assert (shown.status.way, shown.status.code) == ("command", 0)
    assert shown.running is not None
    assert shown.running.arguments[1:] == ("600",)
    assert all(file.sha for file in shown.running.mapped)
    assert any("libc" in file.path for file in shown.running.mapped)
    assert not [other for other in shown.others if other.role == "acts"]
    assert [place.root.stat().st_uid] == [rights.owner for rights in shown.rights[:1]]


def test_an_artifact_that_was_replaced_under_the_process(place: Place) -> None:
    main, artifact = serve(place)
    wait_for(lambda: executes(main) == str(artifact))
    artifact.rename(artifact.with_name("before"))
    artifact.write_bytes(b"other bytes")
    shown = look(place)
    assert [(run.sha, run.path) for run in shown.runs] == [
        (artifact.parent.name, str(artifact.with_name("before")))
    ]
    assert shown.disk is not None
    assert shown.disk.sha != artifact.parent.name


@pytest.fixture
def state(place: Place) -> Iterator[Path]:
    """A file system of its own for STATE, with hardly any room."""
    folder = place.root / "state"
    argv = ["mount", "-t", "tmpfs", "-o", "size=64k", "none", str(folder)]
    if subprocess.run(argv, check=False, capture_output=True).returncode != 0:
        unable("this account can't mount a file system here")
    for name in ("mutex", "probe.lock"):
        (folder / name).touch()
    try:
        yield folder
    finally:
        subprocess.run(["umount", str(folder)], check=True)


def test_p6_a_state_without_room_is_shown(place: Place, state: Path) -> None:
    serve(place)
    assert look(place).state_writable is True
    with suppress(OSError), (state / "filler").open("wb", buffering=0) as filler:
        while True:
            filler.write(b"x" * 4096)
    shown = look(place)
    assert (shown.state_writable, "No space left" in shown.state_error) == (False, True)
    assert not (state / "trial").exists()


def test_p6_a_state_that_is_read_only_is_shown(place: Place, state: Path) -> None:
    serve(place)
    subprocess.run(["mount", "-o", "remount,ro", str(state)], check=True)
    shown = look(place)
    assert (shown.state_writable, "Read-only" in shown.state_error) == (False, True)


def test_p6_a_stop_ends_strays_with_what_starts_them_and_nothing_else(place: Place) -> None:
    main, artifact = serve(place)
    copy = place.root.parent / "copy"
    copy.write_bytes(artifact.read_bytes())
    copy.chmod(0o755)
    reader = place.start("tail", "-f", artifact)
    shell = place.start("tail", "-f", "/dev/null", user=ACCOUNT)
    stray = place.start("unshare", "--mount", copy, "600")
    loop = place.start("sh", "-c", f"while :; do '{copy}' 0.2; done", user=ACCOUNT)
    for pid, name in ((reader, "tail"), (shell, "tail"), (stray, "copy")):
        wait_for(lambda pid=pid, name=name: executes(pid).endswith(f"/{name}"))  # type: ignore[misc]
    wait_for(lambda: stop(place)[0] == 0 and executes(loop) == executes(stray) == "")
    _, shown = stop(place)
    assert [process.pid for process in shown.alive] == [main]
    assert executes(main) == str(artifact)
    assert executes(reader)
    assert executes(shell)
    roles = {other.pid: other.role for other in shown.others}
    assert (roles[reader], roles[shell]) == ("reader", "account")


def test_p6_strays_with_arguments_without_end_are_ended(place: Place) -> None:
    """They kept a host from being stopped for half a minute once."""
    main, artifact = serve(place)
    words = ["0" * 100_000] * 17
    pids = [place.start(artifact, "600", *words, user=ACCOUNT) for _ in range(12)]
    killed, shown = stop(place)
    assert killed == len(pids)
    assert [process.pid for process in shown.alive] == [main]


def test_a_root_program_that_lowers_its_rights_for_a_moment_is_not_the_account(
    place: Place,
) -> None:
    """The agent itself asks a socket so."""
    code = (
        f"import os, pwd, time; os.seteuid(pwd.getpwnam('{ACCOUNT}').pw_uid);"
        "print('up', flush=True); time.sleep(600)"
    )
    pid = place.start(PYTHON, "-c", code, says_up=True)
    assert place.role(pid)[0] == ""
