"""A deployment as one conversation with the packed file: real files, a real service, real time."""

from __future__ import annotations

import hashlib
import os
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from deploytool.agent.protocol import answer_end, parse_answer, request_bytes
from deploytool.agent.requests import (
    Activate,
    Activated,
    Answer,
    Confirm,
    Halt,
    Halted,
    LookAfterStop,
    LookAnswer,
    Probe,
    RefusedAnswer,
    Request,
    Retire,
    Staged,
    StageRelease,
    Surveyed,
    TakeLock,
    Unlock,
)
from deploytool.agent.requests import Locked as TookLock
from deploytool.release.model import Manifest

from .conftest import ARTIFACT, NONCE, Place, eventually, running


class Conversation:
    """One run of the agent, asked again and again."""

    def __init__(self, place: Place) -> None:
        self.place = place
        self.agent = subprocess.Popen(
            [place.agent], stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=place.environment
        )

    def ask(self, request: Request, payload: bytes = b"") -> Answer | RefusedAnswer:
        assert self.agent.stdin is not None
        assert self.agent.stdout is not None
        self.agent.stdin.write(request_bytes(request, NONCE) + payload)
        self.agent.stdin.flush()
        found = b""
        while answer_end(NONCE) not in found or not found.endswith(b"\n"):
            part = os.read(self.agent.stdout.fileno(), 1 << 20)
            assert part, found
            found += part
        return parse_answer(found, NONCE, request)

    def close(self) -> None:
        assert self.agent.stdin is not None
        self.agent.stdin.close()
        assert self.agent.wait(20) == 0

    def end(self) -> None:
        """Ends it however it is, and what a test knows of it."""
        self.agent.kill()
        self.agent.wait()
        for pipe in (self.agent.stdin, self.agent.stdout):
            with suppress(OSError):  # it held what nobody reads any more
                assert pipe is not None
                pipe.close()


@pytest.fixture
def connect(place: Place) -> Iterator[Callable[[], Conversation]]:
    """Begins another conversation."""
    made: list[Conversation] = []

    def begin() -> Conversation:
        made.append(Conversation(place))
        return made[-1]

    yield begin
    for one in made:
        one.end()


@pytest.fixture
def host(connect: Callable[[], Conversation]) -> Conversation:
    return connect()


def release(version: str) -> tuple[str, bytes, bytes]:
    content = ARTIFACT.read_bytes().replace(b"VERSION=1.0", b"VERSION=" + version.encode())
    sha = hashlib.sha256(content).hexdigest()
    manifest = Manifest(
        name="router",
        version=version,
        sha256=sha,
        size=len(content),
        version_line=f"router {version}",
    )
    return sha, content, manifest.canonical()


def stage(token: int, sha: str, content: bytes, manifest: bytes) -> StageRelease:
    return StageRelease(
        token=token,
        release=sha,
        artifact_size=len(content),
        manifest=hashlib.sha256(manifest).hexdigest(),
        manifest_size=len(manifest),
        seconds=30,
    )


def deploy(host: Conversation, version: str) -> Activated:
    """Lock, stage, activate, confirm, unlock: as the operator's side asks for it."""
    sha, content, manifest = release(version)
    lock = TakeLock(holder="ann@desk", purpose="deploy", plan=f"plan-{version}", release=sha)
    locked = host.ask(lock)
    assert isinstance(locked, TookLock), locked
    staged = host.ask(stage(locked.token, sha, content, manifest), manifest + content)
    assert isinstance(staged, Staged), staged
    activated = host.ask(Activate(token=locked.token, release=sha, deadman=60, show=Probe()))
    assert isinstance(activated, Activated), activated
    evidence = activated.evidence
    assert evidence is not None, activated
    main = next(p for p in evidence.processes if p.pid == evidence.main)
    confirm = Confirm(
        token=locked.token, release=sha, pid=main.pid, start=main.start, boot=evidence.boot
    )
    assert type(host.ask(confirm)) is Answer
    unlocked = host.ask(Unlock(token=locked.token, keep=2, release=sha))
    assert not isinstance(unlocked, RefusedAnswer), unlocked
    return activated


def test_a_release_is_deployed_and_the_next_one_after_it(host: Conversation) -> None:
    mains = []
    for version in ("1.0", "2.0"):
        sha, content, _ = release(version)
        deploy(host, version)
        shown = host.ask(Probe(release=sha))
        assert isinstance(shown, LookAnswer), shown
        evidence = shown.evidence
        assert evidence.current == f"releases/{sha}"
        assert evidence.disk is not None
        assert evidence.disk.sha == sha
        assert [(run.pid, run.how, run.sha) for run in evidence.runs] == [
            (evidence.main, "fd", sha)
        ]
        assert evidence.status is not None
        assert f'"release": "{sha}"' in evidence.status.answer
        marks = evidence.marks
        assert (marks.lock, marks.rollout, marks.deadman) == (None, None, None)
        assert marks.verified is not None
        assert (marks.verified.release, marks.verified.pid) == (sha, evidence.main)
        assert (host.place.root / "current" / "router").read_bytes() == content
        mains.append(evidence.main)
    assert mains[0] != mains[1]
    assert not Path(f"/proc/{mains[0]}/fd/0").exists(), "the old one has ended"
    host.close()
    assert Path(f"/proc/{mains[1]}").exists(), "the service outlives the agent"
    parent = Path(f"/proc/{mains[1]}/status").read_text().partition("PPid:")[2].split()[0]
    assert parent != str(host.agent.pid)


def test_what_the_service_inherits_is_nothing_of_the_agents(host: Conversation) -> None:
    activated = deploy(host, "1.0")
    assert activated.evidence is not None
    main = activated.evidence.main
    links = {n: os.readlink(f"/proc/{main}/fd/{n}") for n in os.listdir(f"/proc/{main}/fd")}
    log = str(host.place.root / "state/service/log")
    assert (links["1"], links["2"]) == (log, log)
    inside = f"{host.place.root}/"
    assert all(link.startswith(inside) or link == "/dev/null" for link in links.values()), links
    variables = Path(f"/proc/{main}/environ").read_bytes().split(b"\0")
    assert {name.partition(b"=")[0] for name in variables if name} == {b"PATH", b"LANG"}
    limits = Path(f"/proc/{main}/limits").read_text()
    line = next(line for line in limits.splitlines() if line.startswith("Max address space"))
    assert line.split()[3] == "unlimited"
    ignored = Path(f"/proc/{main}/status").read_text().partition("SigIgn:\t")[2].split()[0]
    assert int(ignored, 16) & (2**31 - 1) == 0
    assert os.getsid(main) != os.getsid(host.agent.pid)


def test_a_copy_that_breaks_off_or_is_altered_is_no_release(
    place: Place, connect: Callable[[], Conversation]
) -> None:
    sha, content, manifest = release("1.0")
    lock = TakeLock(holder="ann", purpose="deploy", plan="p", release=sha)
    for sent in (manifest + content[:-1] + b"x", manifest[:-1] + b"x" + content):
        host = connect()
        locked = host.ask(lock)
        assert isinstance(locked, TookLock), locked
        token = locked.token
        refused = host.ask(stage(token, sha, content, manifest), sent)
        assert isinstance(refused, RefusedAnswer), refused
        assert host.agent.wait(20) == 0, "it ends after a refusal"
    ended = place.raw(request_bytes(stage(token, sha, content, manifest), NONCE) + manifest)
    found = parse_answer(ended.output, NONCE, stage(token, sha, content, manifest))
    assert isinstance(found, RefusedAnswer)
    assert os.listdir(place.root / "releases") == []


def test_a_service_that_does_not_start_is_shown_so(host: Conversation) -> None:
    sha, content, manifest = release("1.0")
    broken = content.replace(b"exec 7<", b"exit 3; exec 7<")
    sha = hashlib.sha256(broken).hexdigest()
    manifest = manifest.replace(hashlib.sha256(content).hexdigest().encode(), sha.encode())
    locked = host.ask(TakeLock(holder="ann", purpose="deploy", plan="p", release=sha))
    assert isinstance(locked, TookLock), locked
    staged = host.ask(stage(locked.token, sha, broken, manifest), manifest + broken)
    assert isinstance(staged, Staged), staged
    activated = host.ask(Activate(token=locked.token, release=sha, show=Probe()))
    assert isinstance(activated, Activated), activated
    assert activated.evidence is not None
    assert (activated.evidence.main, activated.evidence.runs) == (0, ())


def test_an_activation_that_nobody_confirms_ends_by_itself(host: Conversation) -> None:
    sha, content, manifest = release("1.0")
    locked = host.ask(TakeLock(holder="ann", purpose="deploy", plan="p", release=sha))
    assert isinstance(locked, TookLock), locked
    host.ask(stage(locked.token, sha, content, manifest), manifest + content)
    activated = host.ask(Activate(token=locked.token, release=sha, deadman=1, show=Probe()))
    assert isinstance(activated, Activated), activated
    assert activated.evidence is not None
    host.agent.kill()
    eventually((host.place.state / "expired").exists)
    main = activated.evidence.main
    eventually(lambda: not Path(f"/proc/{main}/fd/0").exists())


def test_a_stop_halts_and_the_last_rungs_end_what_remains(
    host: Conversation, connect: Callable[[], Conversation]
) -> None:
    activated = deploy(host, "1.0")
    assert activated.evidence is not None
    main = activated.evidence.main
    halted = host.ask(Halt(latch="ab12", by="ann", reason="test", since=1, seconds=5))
    assert isinstance(halted, Halted), halted
    assert halted.latched
    assert halted.said is not None
    assert "HALTED" in halted.said.answer
    found = host.ask(LookAfterStop())
    assert isinstance(found, Surveyed), found
    assert main in {process.pid for process in found.survey.alive}
    host.close()
    why = b"by ann\nreason test\nlatch ab12\nsince 1\n"
    ran = host.place.raw(
        b"deploytool/1 0a fence\n%s.\ndeploytool/1 0b kill\nseconds 3\n%s.\n" % (why, why)
        + b"deploytool/1 0c look\n.\n"
    )
    text = ran.output.decode()
    assert "fenced yes" in text
    assert "alive" not in text
    assert text.count(" end ok\n") == 3
    assert not Path(f"/proc/{main}/fd/0").exists()
    again = connect()
    after = again.ask(LookAfterStop())
    assert isinstance(after, Surveyed), after
    assert (after.survey.alive, after.survey.fenced) == ((), True)
    lock = TakeLock(holder="ann", purpose="deploy", plan="q", release=None)
    locked = again.ask(lock)
    assert isinstance(locked, TookLock), locked
    sha = release("1.0")[0]
    refused = again.ask(Activate(token=locked.token, release=sha, latch="ab12", show=Probe()))
    assert isinstance(refused, RefusedAnswer), refused
    assert refused.code == "halted"


def test_strays_that_follow_one_another_are_no_silence(host: Conversation) -> None:
    """Each is gone at the next look; a passer-by is too, and no other follows it."""
    deploy(host, "1.0")
    stray = host.place.root / "releases" / ("a" * 64) / "router"
    stray.parent.mkdir()
    shutil.copy("/usr/bin/sleep", stray)
    halt = Halt(latch="ab12", by="ann", reason="test", since=1, seconds=5)
    with running(stray, "0.1"):
        quiet = host.ask(halt)
    assert isinstance(quiet, Halted), quiet
    assert quiet.strays == ()
    with running("sh", "-c", 'while :; do "$1" 0.2; done', "sh", stray):
        eventually(lambda: isinstance(told := host.ask(halt), Halted) and told.strays)
        eventually(
            lambda: (
                isinstance(told := host.ask(LookAfterStop()), Surveyed)
                and len(told.survey.alive) > 1
            )
        )


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGHUP])
def test_an_agent_that_is_ended_while_it_stages_leaves_no_release(
    place: Place, connect: Callable[[], Conversation], number: int
) -> None:
    sha, content, manifest = release("1.0")
    host = connect()
    locked = host.ask(TakeLock(holder="ann", purpose="deploy", plan="p", release=sha))
    assert isinstance(locked, TookLock), locked
    assert host.agent.stdin is not None
    begun = request_bytes(stage(locked.token, sha, content, manifest), NONCE) + manifest + b"#!"
    host.agent.stdin.write(begun)
    host.agent.stdin.flush()
    eventually(lambda: any(place.root.glob("releases/.incoming.*/router")))
    host.agent.send_signal(number)
    host.agent.stdin.close()
    host.agent.wait(20)
    assert not [name for name in os.listdir(place.root / "releases") if name == sha]
    later = connect()
    staged = later.ask(stage(locked.token, sha, content, manifest), manifest + content)
    assert isinstance(staged, Staged), staged
    retired = later.ask(Retire(token=locked.token))
    assert not isinstance(retired, RefusedAnswer), retired
    later.close()
