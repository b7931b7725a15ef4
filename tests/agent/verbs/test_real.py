"""The verbs in the file that a host gets, over real files, processes and signatures.

The service is ``tests/contract/artifact.sh``, started by the agent itself (supervisor: process).
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import os
import select
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from deploytool.agent.protocol import NoAnswer, parse_answer, request_bytes
from deploytool.agent.requests import (
    Activate,
    Activated,
    Answer,
    Confirm,
    Expire,
    FlagStep,
    Halt,
    Halted,
    Locked,
    Probe,
    RefusedAnswer,
    Request,
    Resume,
    StageRelease,
    TakeLock,
    Unlock,
)
from deploytool.agent.settings import Command, Settings
from deploytool.fleet.agent_file import agent_file

CONTRACT = Path(__file__).parents[2] / "contract"
ARTIFACT, FLAGGED = CONTRACT / "artifact.sh", CONTRACT / "flagged.sh"
PATIENCE_S = 60.0
NONCE = "ab" * 16


@dataclasses.dataclass(frozen=True)
class Build:
    """A release of the contract's artifact."""

    artifact: bytes
    manifest: bytes

    @staticmethod
    def of(version: str, artifact: Path = ARTIFACT) -> Build:
        content = artifact.read_bytes().replace(b"VERSION=1.0", f"VERSION={version}".encode())
        said = {
            "name": "router",
            "sha256": hashlib.sha256(content).hexdigest(),
            "version_line": f"router {version}",
        }
        text = json.dumps(said, sort_keys=True, separators=(",", ":")) + "\n"
        return Build(content, text.encode())

    @property
    def release(self) -> str:
        return hashlib.sha256(self.artifact).hexdigest()

    @property
    def payload(self) -> bytes:
        return self.manifest + self.artifact


ONE, TWO = Build.of("1.0"), Build.of("2.0")


class Conversation:
    """One run of the agent, which answers request after request."""

    def __init__(self, agent: Path) -> None:
        self.process = subprocess.Popen(
            [str(agent)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0
        )
        self._printed = b""

    def send(self, content: bytes) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(content)

    def hear(self, request: Request) -> Answer:
        """The answer; what was printed so far is read."""
        until = time.monotonic() + PATIENCE_S
        assert self.process.stdout is not None
        while True:
            with contextlib.suppress(NoAnswer):
                answer = parse_answer(self._printed, NONCE, request)
                self._printed = b""
                return answer
            ready, _, _ = select.select([self.process.stdout], [], [], until - time.monotonic())
            got = os.read(self.process.stdout.fileno(), 1 << 20) if ready else b""
            assert got, f"no answer to {request.verb}: {self._printed!r}"
            self._printed += got

    def ask(self, request: Request, payload: bytes = b"") -> Any:
        self.send(request_bytes(request, NONCE) + payload)
        return self.hear(request)

    def close(self) -> None:
        self.process.kill()
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe is not None:
                pipe.close()
        self.process.wait(PATIENCE_S)


class Place:
    """A prepared host in a folder of its own."""

    def __init__(self, folder: Path) -> None:
        self.root, self.state = folder / "root", folder / "root" / "state"
        (self.state / "service").mkdir(parents=True)
        (self.root / "releases").mkdir()
        for name in ("mutex", "probe.lock"):
            (self.state / name).touch()
        self.agent = folder / "agent"
        self.key, self.signers = folder / "key", folder / "signers"
        artifact = "{current}/router"
        service = str(self.state / "service")
        self.settings = Settings(
            agent=str(self.agent),
            fleet="f",
            host="h",
            name="router",
            root=str(self.root),
            account=None,
            supervisor="process",
            start=Command(argv=(artifact, "serve", service)),
            version=Command(argv=(artifact, "--version")),
            status=Command(argv=(artifact, "status", service)),
            halt=Command(argv=(artifact, "halt", service)),
            stop_s=2,
            ask_s=5,
            signers=str(self.signers),
        )
        self.signers.touch()
        self.render(self.settings)
        self._open: list[Conversation] = []

    def render(self, settings: Settings) -> None:
        """Puts the agent there, as ``host prepare`` does."""
        self.settings = settings
        self.agent.write_bytes(agent_file(settings))
        self.agent.chmod(0o755)

    def talk(self) -> Conversation:
        made = Conversation(self.agent)
        self._open.append(made)
        return made

    def ask(self, request: Request, payload: bytes = b"") -> Any:
        """One request to a run of its own."""
        talk = self.talk()
        try:
            return talk.ask(request, payload)
        finally:
            talk.close()

    def lock(self, plan: str = "plan1", **words: Any) -> int:
        answer = self.ask(claim(plan, **words))
        assert isinstance(answer, Locked), answer
        return answer.token

    def deploy(self, made: Build, plan: str = "plan1", **words: Any) -> Activated:
        """Lock, stage and activate, in one conversation; what was shown."""
        talk = self.talk()
        token = talk.ask(claim(plan, release=made.release)).token
        staged = talk.ask(staging(made, token), made.payload)
        assert not isinstance(staged, RefusedAnswer), staged
        activate = Activate(token=token, release=made.release, show=Probe(), **words)
        answer = talk.ask(activate)
        assert isinstance(answer, Activated), answer
        return answer

    def mark(self, name: str) -> str | None:
        path = self.state / name
        return path.read_text() if path.exists() else None

    def alive(self) -> list[int]:
        """Every process that runs a release of this root."""
        found = []
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit():
                with contextlib.suppress(OSError):
                    links = [*(entry / "fd").iterdir()]
                    paths = [str(link.readlink()) for link in links]
                    if any(path.startswith(f"{self.root}/releases/") for path in paths):
                        found.append(int(entry.name))
        return found

    def close(self) -> None:
        for talk in self._open:
            talk.close()
        for pid in self.alive():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


def claim(plan: str = "plan1", holder: str = "me@here", **words: Any) -> TakeLock:
    said = {"holder": holder, "purpose": "deploy", "plan": plan, "release": ONE.release}
    return TakeLock(**{**said, **words})


def staging(made: Build, token: int, **words: Any) -> StageRelease:
    said: dict[str, Any] = {
        "token": token,
        "release": made.release,
        "artifact_size": len(made.artifact),
        "manifest": hashlib.sha256(made.manifest).hexdigest(),
        "manifest_size": len(made.manifest),
        "seconds": 60,
    }
    return StageRelease(**{**said, **words})


def confirmation(answer: Activated, token: int) -> Confirm:
    """What confirms what an activation showed."""
    shown = answer.evidence
    assert shown is not None
    (main,) = [process for process in shown.processes if process.pid == shown.main]
    return Confirm(
        token=token,
        release=shown.current.removeprefix("releases/"),
        pid=main.pid,
        start=main.start,
        boot=shown.boot,
    )


def until(holds: Callable[[], bool], text: str) -> None:
    end = time.monotonic() + PATIENCE_S
    while not holds():
        assert time.monotonic() < end, f"not within {PATIENCE_S:g} s: {text}"
        time.sleep(0.02)


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    made = Place(tmp_path)
    try:
        yield made
    finally:
        made.close()


def test_p1_a_deployment_is_one_conversation(place: Place) -> None:
    for before, made, plan in ((None, ONE, "plan1"), (ONE.release, TWO, "plan2")):
        talk = place.talk()
        locked = talk.ask(claim(plan, release=made.release, show=Probe()))
        assert isinstance(locked, Locked)
        assert locked.evidence is not None
        assert locked.evidence.marks.lock is not None
        token = locked.token
        assert talk.ask(staging(made, token), made.payload).sent is True
        assert talk.ask(staging(made, token), made.payload).sent is False
        activate = Activate(token=token, release=made.release, deadman=600, show=Probe())
        answer = talk.ask(activate)
        assert isinstance(answer, Activated)
        shown = answer.evidence
        assert shown is not None, answer
        assert (answer.complaint, shown.current) == ("", f"releases/{made.release}")
        assert {run.sha for run in shown.runs} == {made.release}
        assert shown.status is not None
        status = json.loads(shown.status.answer)
        assert (status["release"], status["pid"]) == (made.release, shown.main)
        assert place.alive() == [shown.main]
        assert talk.ask(confirmation(answer, token)) == Answer()
        assert talk.ask(Unlock(token=token, keep=2, release=made.release)) is not None
        assert place.mark("lock") is None
        assert (place.mark("previous") or "").strip() == (before or "none")
    folder = place.root / "releases" / TWO.release
    assert (folder / "router").read_bytes() == TWO.artifact
    assert (folder / "router").stat().st_mode & 0o7777 == 0o555
    assert (folder / "release.json").stat().st_mode & 0o7777 == 0o444
    assert sorted(p.name for p in (place.root / "releases").iterdir()) == sorted(
        (ONE.release, TWO.release)
    )


@pytest.mark.parametrize(
    ("altered", "code"),
    [
        (ONE.payload[:-1] + b"!", "bad-copy"),
        (ONE.manifest.replace(b"name", b"nbme") + ONE.artifact, "bad-copy"),
        (b"", "slow-copy"),
        (ONE.payload[:-1], "slow-copy"),
    ],
)
def test_p1_a_copy_that_is_not_the_release_leaves_nothing(
    place: Place, altered: bytes, code: str
) -> None:
    """Over a conversation that goes on, bytes that don't come are told from late ones by time."""
    token = place.lock()
    assert place.ask(staging(ONE, token, seconds=1), altered).code == code
    assert list((place.root / "releases").iterdir()) == []


def test_p1_an_artifact_that_is_another_version_is_refused(place: Place) -> None:
    token = place.lock()
    lying = dataclasses.replace(ONE, manifest=ONE.manifest.replace(b"router 1.0", b"router 9.9"))
    answer = place.ask(staging(lying, token), lying.payload)
    assert answer.code == "bad-version"
    assert "router 1.0" in answer.text
    assert list((place.root / "releases").iterdir()) == []


def copying(place: Place, token: int) -> tuple[Conversation, StageRelease]:
    """A copy of which half has been sent, and received."""
    talk, request = place.talk(), staging(ONE, token)
    half = len(ONE.artifact) // 2
    talk.send(request_bytes(request, NONCE) + ONE.manifest + ONE.artifact[:half])
    until(lambda: bool(list((place.root / "releases").glob(".incoming.*/router"))), "it began")
    return talk, request


def test_p7_a_lock_is_taken_over_while_its_holder_is_still_copying(place: Place) -> None:
    token = place.lock()
    talk, request = copying(place, token)
    later = place.lock("plan2", take_over=token)
    assert later > token
    assert place.ask(staging(ONE, later), ONE.payload).sent
    talk.send(ONE.artifact[len(ONE.artifact) // 2 :])
    answer = talk.hear(request)
    assert isinstance(answer, RefusedAnswer)
    assert answer.code == "stale-token"
    assert [p.name for p in (place.root / "releases").iterdir()] == [ONE.release]
    assert talk.process.wait(PATIENCE_S) == 0, "it ends after a refusal"


def test_p7_a_copy_that_was_killed_leaves_nothing_under_its_name(place: Place) -> None:
    token = place.lock()
    talk, _ = copying(place, token)
    talk.close()
    assert not (place.root / "releases" / ONE.release).exists()
    assert place.ask(staging(ONE, token), ONE.payload).sent
    place.ask(Unlock(token=token, keep=2))
    assert [p.name for p in (place.root / "releases").iterdir()] == [ONE.release]


def test_p1_a_copy_in_progress_is_no_process_that_runs_the_release(place: Place) -> None:
    token = place.lock()
    talk, request = copying(place, token)
    shown = place.ask(Probe()).evidence
    assert shown.runs == ()
    assert [other for other in shown.others if str(place.root) in repr(other)] == []
    talk.send(ONE.artifact[len(ONE.artifact) // 2 :])
    assert not isinstance(talk.hear(request), RefusedAnswer)


def test_p7_of_many_that_lock_a_host_at_once_one_has_it(place: Place) -> None:
    answers: list[Any] = []

    def ask(plan: str) -> None:
        answers.append(place.ask(claim(plan)))

    threads = [threading.Thread(target=ask, args=(f"plan{n}",)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE_S)
    assert len([a for a in answers if isinstance(a, Locked)]) == 1
    assert {a.code for a in answers if isinstance(a, RefusedAnswer)} == {"locked"}


def test_p7_a_host_that_nobody_confirms_stops_serving(place: Place) -> None:
    answer = place.deploy(ONE, deadman=2)
    assert answer.evidence is not None
    assert answer.evidence.main in {0, *place.alive()} or place.mark("expired")
    until(lambda: place.mark("expired") is not None, "its time is up")
    until(lambda: place.alive() == [], "it stopped serving")
    assert place.ask(confirmation(answer, 1)).code in {"moved-on", "expired"}


def test_p7_a_host_that_was_confirmed_goes_on_serving(place: Place) -> None:
    answer = place.deploy(ONE, deadman=600)
    assert place.ask(confirmation(answer, 1)) == Answer()
    assert place.ask(Expire(token=1)) == Answer()
    assert answer.evidence is not None
    assert place.alive() == [answer.evidence.main]


def test_p7_a_change_goes_on_when_its_deployer_is_gone(place: Place) -> None:
    """What was begun ends as it should, and the next look shows it."""
    token = place.lock()
    assert place.ask(staging(ONE, token), ONE.payload).sent
    talk = place.talk()
    talk.send(request_bytes(Activate(token=token, release=ONE.release, show=Probe()), NONCE))
    assert talk.process.stdin is not None
    assert talk.process.stdout is not None
    said = b""
    while f"{NONCE} begin".encode() not in said:
        more = os.read(talk.process.stdout.fileno(), 4096)
        assert more, "it has to begin its answer"
        said += more
    talk.process.stdin.close()
    talk.process.stdout.close()
    until(lambda: place.alive() != [] and (place.root / "current").is_symlink(), "it serves")
    assert talk.process.wait(PATIENCE_S) is not None
    shown = place.ask(Probe()).evidence
    assert {run.sha for run in shown.runs} == {ONE.release}


# --- stop and start ------------------------------------------------------------------------------


def signed(place: Place, signer: str = "ann", **changes: Any) -> bytes:
    """A request to start that was signed with a real key."""
    if shutil.which("ssh-keygen") is None:
        pytest.fail("ssh-keygen is not on this machine")
    key = place.key.with_name(f"key-{signer}")
    if not key.exists():
        words = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", signer, "-f", str(key)]
        subprocess.run(words, check=True)
        public = Path(f"{key}.pub").read_text()
        known = f"{signer} {' '.join(public.split()[:2])}\n"
        place.signers.write_text(place.signers.read_text() + known)
    now = int(time.time())
    said = {
        "by": "bob",
        "expires": now + 600,
        "fleet": "f",
        "host": "h",
        "issued": now,
        "latch": "disk",
        "reason": "fixed",
        "stop": "ab12",
        **changes,
    }
    line = json.dumps(said, sort_keys=True, separators=(",", ":"), ensure_ascii=False) + "\n"
    words = ["ssh-keygen", "-Y", "sign", "-q", "-n", "start.deploytool", "-f", str(key)]
    done = subprocess.run(words, input=line.encode(), capture_output=True, check=True)
    return line.encode() + done.stdout


def stop(place: Place) -> None:
    """Halts the service, and then climbs all rungs; the last of them in the shell."""
    halt = Halt(latch="ab12", by="me@here", reason="runaway", since=1, seconds=5)
    halted = place.ask(halt)
    assert isinstance(halted, Halted)
    assert halted.latched
    for verb in ("fence", "kill"):
        keys = "latch ab12\nby me@here\nreason runaway\nsince 1\nseconds 5\n.\n"
        sent = f"deploytool/1 {NONCE} {verb}\n{keys}".encode()
        done = subprocess.run([str(place.agent)], input=sent, capture_output=True, check=True)
        assert f"deploytool {NONCE} end ok".encode() in done.stdout, done
    # The last rungs write the latch again, without what the artifact calls its own.
    place.ask(halt)


def test_p6_a_fenced_host_is_let_in_by_two_people_alone(place: Place) -> None:
    place.deploy(ONE)
    stop(place)
    assert place.alive() == []
    assert place.ask(Activate(token=1, release=ONE.release, show=Probe())).code == "halted"
    wrong = (
        signed(place, "bob"),
        signed(place, stop="cd34"),
        signed(place, host="another"),
        signed(place)[:-80],
    )
    for content in wrong:
        answer = place.ask(Resume(latch="ab12", size=len(content)), content)
        assert isinstance(answer, RefusedAnswer)
        assert answer.code in {"not-signed", "other-latch"}
        assert place.alive() == []
    content = signed(place, latch=latch_of(place))
    answer = place.ask(Resume(latch="ab12", size=len(content)), content)
    assert not isinstance(answer, RefusedAnswer), answer
    assert answer.released
    assert len(place.alive()) == 1
    assert [place.mark(name) for name in ("halted", "fenced")] == [None, None]


def latch_of(place: Place) -> str:
    """The latch that a request must name."""
    found = dict(line.split(" ", 1) for line in (place.mark("halted") or "").splitlines())
    return found.get("artifact", found["latch"])


# --- flags ---------------------------------------------------------------------------------------


def test_p3_the_steps_of_a_flag_are_the_artifacts_own_commands(place: Place) -> None:
    artifact, service, flag = "{current}/router", str(place.state / "service"), "ICEBERG"
    steps = {
        f"flag_{step}": Command(argv=(artifact, "flag", step, "{flag}", service))
        for step in ("prepare", "commit", "settle", "disarm")
    }
    serve = (artifact, "serve", service, "f", "h", str(place.signers))
    show = Command(argv=(artifact, "flag", "show", flag, service))
    place.render(place.settings.but(start=Command(argv=serve), flag_observe=show, **steps))
    place.deploy(Build.of("1.0", FLAGGED))
    assert place.ask(FlagStep(step="commit", flag=flag)).code == "changing"
    place.ask(Unlock(token=1, keep=2))
    talk = place.talk()
    observed = talk.ask(FlagStep(step="observe")).said
    assert (observed.code, json.loads(observed.answer)["armed"]) == (0, [])
    nonce = talk.ask(FlagStep(step="prepare", flag=flag)).said
    assert len(json.loads(nonce.answer)["nonce"]) == 64
    early = talk.ask(FlagStep(step="commit", flag=flag)).said
    assert (early.code, early.answer) == (3, "")
    assert early.errors.startswith("router: refused (NOT_PROMISED)")
    forged = talk.ask(FlagStep(step="prepare", flag=flag, size=7), b"forged\n").said
    assert forged.code == 3
    (place.root / "current").unlink()
    disarmed = talk.ask(FlagStep(step="disarm", flag=flag)).said
    assert (disarmed.code, json.loads(disarmed.answer)) == (0, {"armed": []})
