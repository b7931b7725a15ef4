"""The packed file on a host with systemd: a real container, a real unit, a real mask and timer."""

from __future__ import annotations

import base64
import hashlib
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from deploytool.agent.protocol import parse_answer, request_bytes
from deploytool.agent.requests import (
    Activate,
    Activated,
    Answer,
    Confirm,
    Halt,
    Locked,
    LookAfterStop,
    Probe,
    Refused,
    Request,
    Retire,
    Shown,
    Staged,
    Surveyed,
    TakeLock,
)
from deploytool.agent.settings import Settings
from deploytool.errors import EnvironmentProblem
from deploytool.fleet.agent_file import agent_file
from deploytool.fleet.agent_settings import settings_of
from deploytool.fleet.inventory import load_inventory
from deploytool.rehearsal.fleets.container import ContainerFleet
from deploytool.rehearsal.fleets.model import silent
from tests.unable import unable

from .conftest import NONCE, command
from .test_deployment import release, stage

pytestmark = [pytest.mark.containers, pytest.mark.slow]
HOST, AGENT = "router1", "/usr/local/libexec/deploytool/router/agent"
WHY = "by ann\nreason test\nlatch ab12\nsince 1\n"


@dataclass
class Systemd:
    """One host with systemd, on which this agent is beside the helper."""

    fleet: ContainerFleet
    settings: Settings

    def root(self, script: str, timeout_s: float = 60) -> str:
        told = self.fleet.inside(HOST, ("sh", "-uc", script), timeout_s=timeout_s)
        return told.out

    def put(self, path: str, content: bytes, mode: str) -> None:
        """A file, in pieces: an argument has a bound."""
        coded = base64.b64encode(content).decode()
        self.root(f"mkdir -p {Path(path).parent}; : >{path}.b64")
        for at in range(0, len(coded), 100_000):
            self.root(f"printf %s '{coded[at : at + 100_000]}' >>{path}.b64")
        self.root(f"base64 -d {path}.b64 >{path} && chmod {mode} {path}; rm {path}.b64")

    def raw(self, sent: bytes) -> str:
        self.put("/tmp/request", sent, "0600")
        return self.root(f"{AGENT} </tmp/request", timeout_s=120)

    def ask(self, request: Request, payload: bytes = b"") -> Answer | Refused:
        printed = self.raw(request_bytes(request, NONCE) + payload)
        return parse_answer(printed.encode(), NONCE, request)

    def shown(self) -> Shown:
        found = self.ask(Probe())
        assert isinstance(found, Shown), found
        return found

    def eventually(self, script: str, expected: str) -> None:
        until = time.monotonic() + 60
        while (found := self.root(script).strip()) != expected:
            assert time.monotonic() < until, (script, found)
            time.sleep(0.2)


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Systemd]:
    fleet = ContainerFleet(tmp_path_factory.mktemp("systemd") / "fleet")
    try:
        try:
            fleet.up(1, silent)
        except EnvironmentProblem as problem:
            unable(f"{problem.what} {problem.now}")
        settings = settings_of(load_inventory(fleet.inventory), HOST)
        artifact, state = "{current}/router", f"{settings.root}/state/service"
        settings = settings.but(
            agent=AGENT,
            start=command(artifact, "serve", state),
            version=command(artifact, "--version"),
            status=command(artifact, "status", state),
            halt=command(artifact, "halt", state),
            ports=(),
            configs=(),
            ready_s=30,
        )
        made = Systemd(fleet, settings)
        made.put(AGENT, agent_file(settings), "0755")
        unit = made.root("cat /usr/local/lib/systemd/system/router.service")
        lines = [
            f"ExecStart={settings.root}/current/router serve {state}"
            if line.startswith("ExecStart=")
            else line
            for line in unit.splitlines()
        ]
        made.put("/usr/local/lib/systemd/system/router.service", "\n".join(lines).encode(), "0644")
        made.root("systemctl daemon-reload")
        yield made
    finally:
        fleet.down(silent)


def activated(host: Systemd, version: str, deadman: int = 0) -> tuple[int, str, Activated]:
    """Locks, stages and activates; gives the token and the release too."""
    host.root(f"cd {host.settings.root}/state && rm -f lock rollout held fenced halted expired")
    host.root("systemctl unmask router")
    sha, content, manifest = release(version)
    lock = TakeLock(holder="ann", purpose="deploy", plan=f"plan-{version}", release=sha)
    locked = host.ask(lock)
    assert isinstance(locked, Locked), locked
    staged = host.ask(stage(locked.token, sha, content, manifest), manifest + content)
    assert isinstance(staged, Staged), staged
    found = host.ask(Activate(token=locked.token, release=sha, deadman=deadman, show=Probe()))
    assert isinstance(found, Activated), found
    assert found.evidence is not None, found
    return locked.token, sha, found


def test_what_runs_is_the_units_and_is_seen_so(host: Systemd) -> None:
    token, sha, found = activated(host, "1.0", deadman=600)
    evidence = found.evidence
    assert evidence is not None
    assert found.complaint == ""
    assert evidence.main in evidence.group
    assert [(run.pid, run.sha) for run in evidence.runs] == [(evidence.main, sha)]
    properties = {one.name: one.value for one in evidence.unit}
    assert (properties["ActiveState"], properties["SubState"]) == ("active", "running")
    assert [file.path for file in evidence.unit_files] == [
        "/usr/local/lib/systemd/system/router.service"
    ]
    assert evidence.status is not None
    assert f'"pid": {evidence.main}' in evidence.status.answer
    main = next(p for p in evidence.processes if p.pid == evidence.main)
    assert main.account == int(host.root("id -u router"))
    timer = "systemctl is-active deploytool-deadman-router.timer"
    assert host.root(timer).strip() == "active"
    confirm = Confirm(token=token, release=sha, pid=main.pid, start=main.start, boot=evidence.boot)
    assert type(host.ask(confirm)) is Answer
    assert host.root(timer).strip() == "inactive"
    assert host.shown().evidence.marks.verified is not None


def test_drop_ins_are_files_of_the_unit(host: Systemd) -> None:
    paths = ["/etc/systemd/system/router.service.d/x.conf", "/run/systemd/system/service.d/y.conf"]
    for path in paths:
        host.put(path, b"[Service]\n", "0644")
    try:
        found = [file.path for file in host.shown().evidence.unit_files]
        assert set(paths) < set(found)
    finally:
        host.root(f"rm {' '.join(paths)}; systemctl daemon-reload")


def test_an_activation_that_nobody_confirms_is_fenced_by_the_timer(host: Systemd) -> None:
    _, _, found = activated(host, "2.0", deadman=3)
    assert found.evidence is not None
    host.eventually(f"ls {host.settings.root}/state/expired", f"{host.settings.root}/state/expired")
    host.eventually("systemctl is-active router", "inactive")
    assert host.root("readlink /etc/systemd/system/router.service").strip() == "/dev/null"
    assert host.shown().evidence.runs == ()


def test_a_stop_masks_and_kills_what_breeds_in_the_group(host: Systemd) -> None:
    _, _, found = activated(host, "3.0")
    assert found.evidence is not None
    main = found.evidence.main
    told = host.ask(Halt(latch="ab12", by="ann", reason="test", since=1, seconds=5))
    assert not isinstance(told, Refused), told
    printed = host.raw(
        f"deploytool/1 0a fence\n{WHY}.\ndeploytool/1 0b kill\nseconds 3\n{WHY}.\n"
        "deploytool/1 0c look\n.\n".encode()
    )
    assert "fenced yes" in printed
    assert "masked yes" in printed
    assert "alive" not in printed
    assert printed.count(" end ok\n") == 3
    assert host.root(f"test -d /proc/{main} || echo gone").strip() == "gone"
    assert host.root("systemctl start router 2>&1 || echo no").strip().endswith("no")
    after = host.ask(LookAfterStop())
    assert isinstance(after, Surveyed), after
    assert (after.survey.alive, after.survey.fenced) == ((), True)
    refused = host.ask(TakeLock(holder="bob", purpose="deploy", plan="other", release=None))
    assert isinstance(refused, Refused)
    assert refused.code == "locked"


def test_a_host_that_is_retired_starts_nothing_at_a_reboot(host: Systemd) -> None:
    token, _, _ = activated(host, "4.0")
    retired = host.ask(Retire(token=token))
    assert not isinstance(retired, Refused), retired
    assert host.root("systemctl is-enabled router").strip() == "masked"
    assert host.root(f"ls {host.settings.root}/current 2>&1; :").strip().endswith("directory")
    evidence = host.shown().evidence
    assert (evidence.main, evidence.current, evidence.runs) == (0, "none", ())


def test_the_digest_it_says_is_that_of_its_file(host: Systemd) -> None:
    expected = hashlib.sha256(agent_file(host.settings)).hexdigest()
    assert host.shown().evidence.agent == expected
