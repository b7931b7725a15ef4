"""Signatures are checked by the real `ssh-keygen`, beside the loop and for a bounded time."""

from __future__ import annotations

import gc
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from router.loop import Loop
from router.signatures import MAX_SEALED, NotSignedError, Signatures, Signer, unseal
from router.subprocesses import MAX_PROGRAMS, Ended, Subprocesses

from .signing import Operator

PARITY = "parity.deploytool"
CONTENT = b'{"epoch":7}\n'


@pytest.fixture(scope="module")
def alice(tmp_path_factory: pytest.TempPathFactory) -> Operator:
    return Operator(tmp_path_factory.mktemp("alice"), "alice")


@pytest.fixture(scope="module")
def mallory(tmp_path_factory: pytest.TempPathFactory) -> Operator:
    return Operator(tmp_path_factory.mktemp("mallory"), "mallory")


class Bench:
    """A loop, what runs beside it, and a file of signers."""

    def __init__(self, folder: Path) -> None:
        self.loop = Loop()
        self.subprocesses = Subprocesses(self.loop)
        self.loop.ticks.append(self.subprocesses.tick)
        self.path = folder / "allowed_signers"
        self.signatures = Signatures(self.subprocesses, self.path)

    def turn_until(self, condition: Callable[[], object], timeout_s: float = 10) -> None:
        end = time.monotonic() + timeout_s
        tick_s = 0.0
        while not condition():
            assert time.monotonic() < end
            tick_s = self.loop.turn(tick_s)

    def signer(self, content: bytes, signature: str, namespace: str = PARITY) -> str:
        """Check to the end; gives the signer, or raises."""
        told: list[Signer] = []
        self.signatures.check(content, signature, namespace, told.append)
        assert not told, "nobody is told before the check has returned"
        self.turn_until(lambda: told)
        return told[0]()

    def run(self, *command: str, **options: float) -> Ended:
        told: list[Ended] = []
        self.subprocesses.run(command, told.append, **options)  # type: ignore[arg-type]
        self.turn_until(lambda: told)
        return told[0]


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    made = Bench(tmp_path)
    yield made
    made.subprocesses.close()


def test_p3_who_signed_is_named(bench: Bench, alice: Operator, mallory: Operator) -> None:
    bench.path.write_text(alice.line() + mallory.line(name="bob"))
    assert bench.signer(CONTENT, alice.sign(CONTENT)) == "alice"
    assert bench.signer(CONTENT, mallory.sign(CONTENT)) == "bob"
    start = "start.deploytool"
    assert bench.signer(CONTENT, alice.sign(CONTENT, start), start) == "alice"


def test_p3_nobody_else_is(bench: Bench, alice: Operator, mallory: Operator) -> None:
    bench.path.write_text(alice.line())
    good = alice.sign(CONTENT)
    for content, signature, why in (
        (CONTENT, mallory.sign(CONTENT), "its key is none of the signers'"),
        (CONTENT.replace(b"7", b"8"), good, "not alice's signature of these bytes"),
        (CONTENT[:-1], good, "not alice's signature of these bytes"),
        (b"", good, "not alice's signature of these bytes"),
        (CONTENT, alice.sign(CONTENT, "start.deploytool"), "for parity.deploytool"),
        (CONTENT, alice.sign(CONTENT, "file"), "for parity.deploytool"),
        (CONTENT, "", "none of the signers'"),
        (CONTENT, good[: len(good) // 2], "none of the signers'"),
        (CONTENT, good.replace("U1NIU0lH", "U1NIU0lI", 1), "none of the signers'"),
    ):
        with pytest.raises(NotSignedError, match=why):
            bench.signer(content, signature)


@pytest.mark.parametrize(
    ("line", "why"),
    [
        (lambda _: "", "none of the signers'"),
        (lambda who: "# " + who.line(), "none of the signers'"),
        (lambda who: who.line('namespaces="start.deploytool"'), "not alice's signature"),
        (lambda who: who.line('valid-before="20200101"'), "signers'|not alice's"),
        (lambda who: who.line('valid-after="20990101"'), "signers'|not alice's"),
        (lambda who: who.line(name="alice,bob"), "no single name"),
        (lambda who: who.line(name="*@example.com"), "no single name"),
        (lambda who: who.line(name="al?ce"), "no single name"),
        (lambda who: who.line(name="--"), "no single name"),
        (lambda who: who.line()[:40], "none of the signers'"),
        (lambda _: "\0" * 4096, "none of the signers'"),
        (lambda who: "#" * 300_000 + "\n" + who.line(), "more than 262144 bytes"),
    ],
)
def test_what_the_signers_file_says_decides(
    bench: Bench, alice: Operator, line: Callable[[Operator], str], why: str
) -> None:
    bench.path.write_text(line(alice))
    with pytest.raises(NotSignedError, match=why):
        bench.signer(CONTENT, alice.sign(CONTENT))


def test_a_signer_who_was_taken_out_is_out_at_once(bench: Bench, alice: Operator) -> None:
    bench.path.write_text(alice.line())
    signature = alice.sign(CONTENT)
    assert bench.signer(CONTENT, signature) == "alice"
    bench.path.write_text("")
    with pytest.raises(NotSignedError):
        bench.signer(CONTENT, signature)


def test_p3_a_file_that_others_can_write_or_that_is_not_there_is_not_believed(
    bench: Bench, alice: Operator, tmp_path: Path
) -> None:
    signature = alice.sign(CONTENT)
    with pytest.raises(NotSignedError, match="can't be read"):
        bench.signer(CONTENT, signature)
    bench.path.write_text(alice.line())
    for mode in (0o664, 0o646, 0o666):
        bench.path.chmod(mode)
        with pytest.raises(NotSignedError, match="written by others"):
            bench.signer(CONTENT, signature)
    bench.path.chmod(0o644)
    assert bench.signer(CONTENT, signature) == "alice"
    bench.signatures = Signatures(bench.subprocesses, None)
    with pytest.raises(NotSignedError, match="without --signers"):
        bench.signer(CONTENT, signature)
    bench.signatures = Signatures(bench.subprocesses, tmp_path)
    with pytest.raises(NotSignedError, match=r"can't be read|not a file"):
        bench.signer(CONTENT, signature)


def test_p3_a_file_of_another_account_is_not_believed(
    bench: Bench, alice: Operator, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench.path.write_text(alice.line())
    if os.geteuid() == 0:
        os.chown(bench.path, 65534, 65534)
    else:  # only root can give a file away: the router is another one instead
        monkeypatch.setattr("os.geteuid", lambda: 65534)
    with pytest.raises(NotSignedError, match="not a file of root's"):
        bench.signer(CONTENT, alice.sign(CONTENT))


def test_a_check_waits_for_no_longer_than_two_seconds(
    bench: Bench, alice: Operator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    signature = alice.sign(CONTENT)
    slow = tmp_path / "bin" / "ssh-keygen"
    slow.parent.mkdir()
    slow.write_text('#!/bin/sh\nsleep 1.5\nexec /usr/bin/ssh-keygen "$@"\n')
    slow.chmod(0o755)
    monkeypatch.setenv("PATH", f"{slow.parent}:{os.environ['PATH']}")
    bench.path.write_text(alice.line())
    began = time.monotonic()
    with pytest.raises(NotSignedError, match="did not end in time"):
        bench.signer(CONTENT, signature)
    assert 1.9 < time.monotonic() - began < 3
    bench.turn_until(lambda: not bench.subprocesses._programs)


def test_without_ssh_keygen_nobody_is_believed(
    bench: Bench, alice: Operator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench.path.write_text(alice.line())
    signature = alice.sign(CONTENT)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(NotSignedError, match="can't be started"):
        bench.signer(CONTENT, signature)


def test_the_loop_turns_while_a_program_runs(bench: Bench) -> None:
    told: list[Ended] = []
    began = time.monotonic()
    bench.subprocesses.run(["sleep", "0.5"], told.append)
    assert time.monotonic() - began < 0.1
    bench.loop.turn(0.0)
    assert not told
    bench.turn_until(lambda: told)
    assert told[0].code == 0


def test_programs_are_bounded_in_number_time_and_output(bench: Bench) -> None:
    told: list[Ended] = []
    for _ in range(MAX_PROGRAMS):
        bench.subprocesses.run(["sleep", "20"], told.append, until_s=time.monotonic() + 0.3)
    refused = bench.run("true")
    assert refused.code is None
    assert "run beside" in refused.trouble
    bench.turn_until(lambda: len(told) == MAX_PROGRAMS)
    assert {ended.why for ended in told} == {"it did not end in time, and was killed"}
    bench.turn_until(lambda: not bench.subprocesses._programs)
    assert bench.run("true").code == 0
    assert len(bench.run("head", "-c", "1000000", "/dev/zero").output) <= 16 * 1024


def test_no_file_stays_open_and_no_child_unwaited_for(bench: Bench, alice: Operator) -> None:
    bench.path.write_text(alice.line())
    signature = alice.sign(CONTENT)
    bench.signer(CONTENT, signature)
    gc.collect()  # what earlier tests left behind is not to be closed in the middle of this one
    before = len(list(Path("/proc/self/fd").iterdir()))
    for _ in range(5):
        bench.signer(CONTENT, signature)
        bench.run("/nowhere/at/all")
    assert len(list(Path("/proc/self/fd").iterdir())) == before
    with pytest.raises(ChildProcessError):
        os.waitpid(-1, os.WNOHANG)


def test_what_is_sealed_is_unsealed_and_nothing_else(alice: Operator) -> None:
    signature = alice.sign(CONTENT)
    whole = CONTENT.decode() + signature
    assert unseal(whole) == (CONTENT, signature)
    for text in (
        "", "x", CONTENT.decode(), signature, "\n" + whole, whole[:-1], whole + "x",
        whole + signature, whole.replace("\n", "\r\n"), "x" * MAX_SEALED + whole,
    ):  # fmt: skip
        with pytest.raises(NotSignedError):
            unseal(text)
