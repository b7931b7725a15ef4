"""Whoever copies slowly, or not to the end, keeps nobody else from the host (P7)."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from deploytool.agent.protocol import parse_answer, request_bytes
from deploytool.agent.requests import RefusedAnswer, StageRelease
from deploytool.release.model import Manifest

from .sides import NONCE, Real, asked, back, claim, lock, look, refused, stage, staging, take

pytestmark = pytest.mark.sshd


@contextmanager
def copying(real: Real, manifest: Manifest, content: bytes, token: int) -> Iterator[SlowCopy]:
    """A copy that has sent the first half, and waits."""
    asks = staging(manifest, token)
    process = subprocess.Popen([real.agent], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    try:
        slow = SlowCopy(process, content[len(content) // 2 :], asks)
        slow.send(request_bytes(asks, NONCE) + manifest.canonical() + content[: len(content) // 2])
        until = time.monotonic() + 10
        while not list((Path(real.root) / "releases").glob(".incoming.*/router")):
            assert time.monotonic() < until, "the copy did not begin"
            time.sleep(0.02)
        yield slow
    finally:
        process.kill()
        process.communicate()


class SlowCopy:
    """The process of the agent that receives it."""

    def __init__(self, process: subprocess.Popen[bytes], rest: bytes, asks: StageRelease) -> None:
        self._process, self._rest, self._asks = process, rest, asks

    def send(self, sent: bytes) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(sent)
        self._process.stdin.flush()

    def finish(self) -> str:
        """Sends the rest, and gives the code with which it is refused, or an empty word."""
        output = self._process.communicate(self._rest, timeout=20)[0]
        answer = parse_answer(output, NONCE, self._asks)
        return answer.code if isinstance(answer, RefusedAnswer) else ""


def test_p7_a_lock_is_taken_over_while_its_holder_is_still_copying(real: Real) -> None:
    manifest, content = real.release("1.0")
    token = lock(real)
    with copying(real, manifest, content, token) as slow:
        assert take(real, claim("plan2", "she@there", take_over=token)) > token
        answer = slow.finish()
    assert answer == "stale-token"
    assert not list((Path(real.root) / "releases").iterdir()), "what came too late is not there"


def test_p7_two_copies_of_one_release_do_not_meet(real: Real) -> None:
    manifest, content = real.release("1.0")
    token = lock(real)
    with copying(real, manifest, content, token) as slow:
        later = take(real, claim("plan2", "she@there", take_over=token))
        assert stage(real, (manifest, content), later).sent
        answer = slow.finish()
    assert answer == "stale-token"
    held = Path(real.root) / "releases" / manifest.sha256 / "router"
    assert held.read_bytes() == content
    assert [path.name for path in held.parent.parent.iterdir()] == [manifest.sha256]


def test_p1_a_copy_under_way_is_no_process_that_runs_the_release(real: Real) -> None:
    manifest, content = real.release("1.0")
    token = lock(real)
    with copying(real, manifest, content, token) as slow:
        evidence = look(real)
        assert (evidence.running, evidence.others("acts", "unseen")) == ((), ())
        assert slow.finish() == ""
    assert (Path(real.root) / "releases" / manifest.sha256).is_dir()


def test_p7_a_lock_is_given_back_while_a_lost_copy_still_hangs(real: Real) -> None:
    manifest, content = real.release("1.0")
    token = lock(real)
    with copying(real, manifest, content, token) as slow:
        asked(real, back(token))
        answer = slow.finish()
    assert answer in {"unlocked", "stale-token"}
    assert refused(real, staging(manifest, token), manifest.canonical() + content) == "unlocked"
    assert not list((Path(real.root) / "releases").iterdir())
