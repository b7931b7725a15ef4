"""Whoever copies slowly, or not to the end, keeps nobody else from the host (P7)."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from deploytool.fleet.protocol import Call, request
from deploytool.parity.round import read
from deploytool.release.model import Manifest

from .sides import Real, asked, claim, lock, refusal, stage, staging

pytestmark = pytest.mark.sshd
NONCE = "ab" * 16


@contextmanager
def copying(real: Real, manifest: Manifest, content: bytes, token: int) -> Iterator[SlowCopy]:
    """A copy that has sent the first half, and waits."""
    call = Call("stage", tuple((k, str(v)) for k, v in staging(manifest, token).items()))
    process = subprocess.Popen([real.helper], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    try:
        slow = SlowCopy(process, content[len(content) // 2 :])
        slow.send(request(call, NONCE) + manifest.canonical() + content[: len(content) // 2])
        until = time.monotonic() + 10
        while not list((Path(real.root) / "releases").glob(".incoming.*/router")):
            assert time.monotonic() < until, "the copy did not begin"
            time.sleep(0.02)
        yield slow
    finally:
        process.kill()
        process.communicate()


class SlowCopy:
    """The process of the helper that receives it."""

    def __init__(self, process: subprocess.Popen[bytes], rest: bytes) -> None:
        self._process, self._rest = process, rest

    def send(self, sent: bytes) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(sent)
        self._process.stdin.flush()

    def finish(self) -> bytes:
        """Sends the rest, and gives what is answered."""
        return self._process.communicate(self._rest, timeout=20)[0]


def test_p7_a_lock_is_taken_over_while_its_holder_is_still_copying(real: Real) -> None:
    manifest, content = real.release("1.0")
    token = lock(real)
    with copying(real, manifest, content, token) as slow:
        taken = asked(real, "takeover", {**claim("plan2", "she@there"), "token": token})
        assert int(taken.one("token") or "") > token
        answer = slow.finish()
    assert b" end refused stale-token " in answer, answer
    assert not list((Path(real.root) / "releases").iterdir()), "what came too late is not there"


def test_p7_two_copies_of_one_release_do_not_meet(real: Real) -> None:
    manifest, content = real.release("1.0")
    token = lock(real)
    with copying(real, manifest, content, token) as slow:
        taken = asked(real, "takeover", {**claim("plan2", "she@there"), "token": token})
        later = int(taken.one("token") or "")
        assert stage(real, (manifest, content), later).one("staged")
        answer = slow.finish()
    assert b" end refused stale-token " in answer, answer
    held = Path(real.root) / "releases" / manifest.sha256 / "router"
    assert held.read_bytes() == content
    assert [path.name for path in held.parent.parent.iterdir()] == [manifest.sha256]


def test_p1_a_copy_under_way_is_no_process_that_runs_the_release(real: Real) -> None:
    manifest, content = real.release("1.0")
    token = lock(real)
    with copying(real, manifest, content, token) as slow:
        evidence = read(asked(real, "probe", {}))
        assert (evidence.runs, evidence.unseen) == ((), frozenset())
        slow.finish()
    assert (Path(real.root) / "releases" / manifest.sha256).is_dir()


def test_p7_a_lock_is_given_back_while_a_lost_copy_still_hangs(real: Real) -> None:
    manifest, content = real.release("1.0")
    token = lock(real)
    with copying(real, manifest, content, token) as slow:
        asked(real, "unlock", {"token": token, "keep": 2})
        answer = slow.finish()
    assert b" end refused " in answer, answer
    assert refusal(real, "stage", **staging(manifest, token)) == "unlocked"
    assert not list((Path(real.root) / "releases").iterdir())
