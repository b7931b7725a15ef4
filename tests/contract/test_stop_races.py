"""A stop in the very moment of a start: the agent itself, with a service of its own (P6)."""

from __future__ import annotations

import subprocess
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

from deploytool.agent.protocol import request_bytes
from deploytool.agent.requests import Answer, Halt, Halted, HaltRelease, Request, Resume, Resumed
from deploytool.errors import HostFault
from deploytool.fleet.prepared import host_files
from deploytool.fleet.protocol import Call, Reply, parse_answer, parse_reply
from deploytool.fleet.protocol import request as framed
from deploytool.simulation import fleet
from deploytool.start.request import StartRequest

NONCE = "ab" * 16
WHY = (("by", "me@here"), ("reason", "runaway+orders"), ("since", "1"))
FIRST, SECOND = (("latch", "ab12"), *WHY), (("latch", "cd34"), *WHY)
ARTIFACT = """#!/bin/sh
# Its state is a word in a file; a second halt keeps the first one's latch, as a router does.
case $1 in
halt) echo HALTED >"$2/word"; echo '{"latch":"9f","trading_state":"HALTED"}' ;;
resume)
    . "$2/meanwhile"
    echo ACTIVE >"$2/word"; echo '{"trading_state":"ACTIVE"}' ;;
esac
"""


class Bare:
    """A prepared host on which nothing runs, and a request that was signed for its first stop."""

    def __init__(self, root: Path) -> None:
        self.root, self.state = root, root / "state"
        (self.state / "service").mkdir(parents=True)
        (root / "releases").mkdir()
        (self.state / "mutex").touch()
        self.artifact = root / "artifact"
        self.artifact.write_text(ARTIFACT)
        self.artifact.chmod(0o755)
        self.word, self.meanwhile = root / "word", root / "meanwhile"
        self.word.write_text("HALTED\n")
        self.meanwhile.touch()
        inventory = fleet.inventory(1, "process")
        update = {
            "halt": (str(self.artifact), "halt", str(root)),
            "resume": (str(self.artifact), "resume", str(root)),
            "listen": (),
            "halt_signal": None,
            "ready_timeout_s": 2.0,
            "stop_timeout_s": 1.0,
        }
        service = inventory.service.model_copy(update=update)
        changed = {"service": service, "release_root": str(root), "signers": None}
        inventory = inventory.model_copy(update=changed)
        self.agent = root / "agent"
        self.agent.write_bytes(host_files(inventory, "router1", "deploy").agent)
        self.agent.chmod(0o755)
        said = StartRequest("alice", "router1", inventory.fleet, "9f", "mended", 1, 60, "ab12")
        self.signed = said.canonical() + b"signature\n"

    def sent(self, asks: Call | Request) -> bytes:
        """A request as the agent reads it, or one of the last rungs."""
        return framed(asks, NONCE) if isinstance(asks, Call) else request_bytes(asks, NONCE)

    def _told(self, sent: bytes) -> bytes:
        """What it prints."""
        argv = ["sh", str(self.agent)]
        return subprocess.run(argv, input=sent, capture_output=True, timeout=30).stdout

    def ask(self, asks: Request, payload: bytes = b"") -> Answer:
        """Asks the agent."""
        return parse_answer(self._told(self.sent(asks) + payload), NONCE, asks)

    def rung(self, call: Call) -> Reply:
        """Tells it one of the last rungs."""
        return parse_reply(self._told(self.sent(call)), NONCE, call)

    def halt(self, asks: Halt) -> Halted:
        """Halts it."""
        halted = self.ask(asks)
        assert isinstance(halted, Halted)
        return halted

    def resume(self) -> Resumed:
        """What ``start`` asks for."""
        answer = self.ask(Resume(latch="ab12", size=len(self.signed)), self.signed)
        assert isinstance(answer, Resumed)
        return answer

    def refused(self) -> str:
        """The same, and the code with which it is refused."""
        with pytest.raises(HostFault) as caught:
            self.resume()
        return caught.value.code

    def latch(self) -> str:
        """The stop that holds here."""
        return (self.state / "halted").read_text().split()[1]

    def once(self, happened: Callable[[], bool], asks: Call | Request) -> threading.Thread:
        """Asks something as soon as something else has happened."""

        def then() -> None:
            until = time.monotonic() + 20
            while not happened() and time.monotonic() < until:
                time.sleep(0.01)
            self._told(self.sent(asks))

        thread = threading.Thread(target=then)
        thread.start()
        return thread

    def during_resume(self, asks: Call | Request) -> None:
        """Asks something while the artifact is checking the request."""
        request = self.root / "request"
        request.write_bytes(self.sent(asks))
        self.meanwhile.write_text(f"sh '{self.agent}' <'{request}' >/dev/null\n")


HALT = Halt(latch="ab12", by="me@here", reason="runaway orders", since=1, seconds=2)
AGAIN = HALT.but(latch="cd34")


@pytest.fixture
def bare(tmp_path: Path) -> Bare:
    made = Bare(tmp_path)
    made.halt(HALT)
    assert made.latch() == "ab12"
    return made


def fence(bare: Bare) -> None:
    assert bare.rung(Call("fence", FIRST)).one("fenced") == "yes"


def test_p6_without_another_stop_it_is_let_in(bare: Bare) -> None:
    fence(bare)
    assert bare.resume().released
    assert bare.word.read_text() == "ACTIVE\n"
    assert sorted(path.name for path in bare.state.iterdir()) == [
        "mutex",
        "released",
        "service",
    ]


def test_p6_a_stop_between_the_fence_and_the_request_holds(bare: Bare) -> None:
    fence(bare)
    stopping = bare.once(lambda: not (bare.state / "fenced").exists(), AGAIN)
    with suppress(HostFault):  # or it was let in just before, and is stopped again
        bare.resume()
    stopping.join()
    assert (bare.latch(), bare.word.read_text()) == ("cd34", "HALTED\n")


def test_p6_a_fence_between_the_fence_and_the_request_holds(bare: Bare) -> None:
    fence(bare)
    gone = bare.once(lambda: not (bare.state / "fenced").exists(), Call("fence", SECOND))
    assert bare.refused() in {"halted", "other-latch"}, "as soon as it is seen"
    gone.join()
    assert (bare.latch(), bare.word.read_text()) == ("cd34", "HALTED\n")
    assert (bare.state / "fenced").exists()


def test_p6_a_stop_while_the_artifact_checks_the_request_is_made_true_again(bare: Bare) -> None:
    """It was told HALTED, and then the first stop's request was carried out."""
    bare.during_resume(AGAIN)
    assert bare.refused() == "other-latch"
    assert (bare.latch(), bare.word.read_text()) == ("cd34", "HALTED\n")
    halted = (bare.state / "halted").read_text()
    assert "reason runaway orders" in halted
    assert not list(bare.state.glob(".lifted.*"))


def test_p6_what_does_not_halt_again_is_fenced(bare: Bare) -> None:
    deaf = bare.root / "deaf"
    deaf.write_text("#!/bin/sh\nexit 1\n")
    deaf.chmod(0o755)
    bare.during_resume(AGAIN)
    with bare.meanwhile.open("a") as file:
        file.write(
            f"cp '{deaf}' '{bare.artifact}.new' && mv '{bare.artifact}.new' '{bare.artifact}'\n"
        )
    assert bare.refused() == "other-latch"
    assert bare.latch() == "cd34"
    assert (bare.state / "fenced").exists()


def test_p6_a_request_of_before_a_second_stop_releases_nothing(bare: Bare) -> None:
    """The artifact keeps its latch through it; whoever asks has looked, and names the new stop."""
    bare.halt(AGAIN)
    with pytest.raises(HostFault) as caught:
        bare.ask(Resume(latch="cd34", size=len(bare.signed)), bare.signed)
    assert caught.value.code == "other-latch"
    assert (bare.latch(), bare.word.read_text()) == ("cd34", "HALTED\n")


# --- a stop of one release: what can't be told is stopped -----------------------------------------

OTHER, MINE = "a" * 64, "b" * 64
CHOSEN = HaltRelease.from_json({**AGAIN.to_json(), "only": MINE[:12]})


@pytest.fixture
def chosen(bare: Bare) -> Bare:
    (bare.state / "halted").unlink()
    bare.word.write_text("ACTIVE\n")
    return bare


@pytest.mark.parametrize("where", ["nowhere", f"releases/{OTHER}"])
def test_what_surely_runs_nothing_of_it_goes_on(chosen: Bare, where: str) -> None:
    if where != "nowhere":
        (chosen.root / "current").symlink_to(where)
    assert chosen.halt(CHOSEN).skipped
    assert chosen.word.read_text() == "ACTIVE\n"


@pytest.mark.parametrize("current", ["odd", "releases/odd", ""])
def test_p6_a_link_that_tells_nothing_is_stopped(chosen: Bare, current: str) -> None:
    link = chosen.root / "current"
    if current:
        link.symlink_to(current)
    else:
        link.mkdir()
    assert not chosen.halt(CHOSEN).skipped
    assert (chosen.latch(), chosen.word.read_text()) == ("cd34", "HALTED\n")


def test_p6_a_process_whose_release_can_t_be_seen_is_stopped(chosen: Bare) -> None:
    held = chosen.root / "releases" / OTHER / "router"
    held.parent.mkdir()
    held.write_text("exit\n")
    (chosen.root / "current").symlink_to(f"releases/{OTHER}")
    with held.open() as file:
        # What a shell runs that reads from elsewhere can't be told, and it has a release at hand.
        hidden = subprocess.Popen(["sh"], stdin=subprocess.PIPE, pass_fds=(file.fileno(),))
    try:
        assert not chosen.halt(CHOSEN).skipped
    finally:
        hidden.communicate()
    assert chosen.latch() == "cd34"
