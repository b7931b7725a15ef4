"""Sessions that are opened before they are needed: the first call gets what came of it."""

from __future__ import annotations

import resource
import time
from collections.abc import Iterable

import pytest

from deploytool.agent.protocol import request_bytes
from deploytool.agent.requests import MarkHold, Request, ShowLatch
from deploytool.errors import EnvironmentProblem, FaultKind, HostFault
from deploytool.fleet import remote
from deploytool.fleet.fanout import WIDTH
from deploytool.fleet.remote import RemoteHost
from deploytool.fleet.session import Conversation, Output
from deploytool.fleet.sshconfig import Route
from deploytool.rollout.hosts import RolloutHosts
from deploytool.rollout.model import Purpose
from deploytool.simulation import fleet, program
from deploytool.simulation.fleet import inventory

WAY = Route("198.51.100.1", 22, "deploy", "198.51.100.1")
PROBE = ShowLatch()


class Attempts:
    """Stands where a session is opened: notes each attempt, and fails as it was told to."""

    def __init__(self, error: Exception) -> None:
        self.made = 0
        self._error = error

    def __call__(self, *_: object) -> object:
        self.made += 1
        time.sleep(0.05)
        raise self._error


def early(monkeypatch: pytest.MonkeyPatch, error: Exception) -> tuple[RemoteHost, Attempts]:
    attempts = Attempts(error)
    monkeypatch.setattr(remote, "Session", attempts)
    host = RemoteHost(fleet.inventory(1, "process"), "router1", WAY)
    host.connect_early()
    return host, attempts


def test_the_next_call_has_the_fault_of_the_early_attempt_and_makes_no_other(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    host, attempts = early(monkeypatch, HostFault(FaultKind.UNREACHABLE, "no route"))
    with pytest.raises(HostFault, match="no route"):
        host.call(PROBE, deadline_s=5)
    assert attempts.made == 1
    with pytest.raises(HostFault, match="no route"):
        host.call(PROBE, deadline_s=5)
    assert attempts.made == 2, "the fault is told once; who calls again tries again"
    with pytest.raises(HostFault, match="given up"):
        host.call(PROBE, deadline_s=5)
    assert attempts.made == 2, "and an early attempt counts"


def test_what_is_no_hosts_fault_is_not_swallowed(monkeypatch: pytest.MonkeyPatch) -> None:
    host, _ = early(monkeypatch, EnvironmentProblem("There is no ssh.", "Nothing.", "Install it."))
    with pytest.raises(EnvironmentProblem, match="no ssh"):
        host.call(PROBE, deadline_s=5)


class Hanging:
    """A session with a machine that takes what it is told and does not answer, until ``well``."""

    def __init__(self) -> None:
        self.waited: list[float] = []
        self.well = False
        self.alive = True

    def converse(self, _command: str, _timeout_s: float) -> Hanging:
        return self

    def ask(
        self, chunks: Iterable[bytes], end: bytes | None, *, deadline_s: float, changes: bool
    ) -> Output:
        self.waited.append(deadline_s)
        if not self.well:
            raise HostFault(FaultKind.TIMEOUT, "the command did not end", in_doubt=changes)
        nonce = next(iter(chunks)).split(b" ")[1]
        assert end is not None
        return Output(None, b"\ndeploytool %s begin\n{}\n%sok\n" % (nonce, end), b"")

    def close(self) -> None:
        pass


class Dying(Hanging):
    """A session whose lines answer once each, and are dead when they are asked again.

    ``noticed``: this end has heard that they died before it asks.
    """

    def __init__(self, *, noticed: bool) -> None:
        super().__init__()
        self.well, self._noticed, self._answered, self.lines = True, noticed, False, 0

    def converse(self, command: str, timeout_s: float) -> Hanging:
        self.alive, self._answered = True, False
        self.lines += 1
        return super().converse(command, timeout_s)

    def ask(
        self, chunks: Iterable[bytes], end: bytes | None, *, deadline_s: float, changes: bool
    ) -> Output:
        if self._answered:
            raise HostFault(FaultKind.LOST, "while the command ran: closed", in_doubt=changes)
        self._answered, self.alive = True, not self._noticed
        return super().ask(chunks, end, deadline_s=deadline_s, changes=changes)


@pytest.mark.parametrize("noticed", [True, False])
def test_a_line_that_died_while_idle_is_opened_once_more_for_what_is_safe_to_repeat(
    monkeypatch: pytest.MonkeyPatch, *, noticed: bool
) -> None:
    session = Dying(noticed=noticed)
    monkeypatch.setattr(remote, "Session", lambda *_: session)
    host = RemoteHost(fleet.inventory(1, "process"), "router1", WAY)
    for count in (1, 2, 3):
        host.call(PROBE, deadline_s=5)
        assert session.lines == count
    changing = MarkHold(token=1, verdict="MIXED", holder="a", plan="b", next="c")
    assert changing.changes
    if noticed:
        host.call(changing, deadline_s=5)
        assert session.lines == 4
        return
    with pytest.raises(HostFault) as caught:
        host.call(changing, deadline_s=5)
    assert caught.value.in_doubt, "it was sent, and may have been carried out"
    assert session.lines == 3


def hung(monkeypatch: pytest.MonkeyPatch) -> tuple[RolloutHosts, RemoteHost, Hanging]:
    session = Hanging()
    monkeypatch.setattr(remote, "Session", lambda *_: session)
    inventory = fleet.inventory(1, "process")
    host = RemoteHost(inventory, "router1", WAY)
    hands = RolloutHosts(
        inventory, {"router1": host}, "me@here", "plan1", Purpose.DEPLOY, lambda *_: None
    )
    hands.tokens = {"router1": 1}
    return hands, host, session


def test_a_host_that_hangs_costs_its_deadline_once(monkeypatch: pytest.MonkeyPatch) -> None:
    hands, host, session = hung(monkeypatch)
    outcome = hands.activate(["router1"], {"router1": program.build("1")[0].sha256})["router1"]
    assert isinstance(outcome, HostFault)
    assert outcome.in_doubt
    first, *later = session.waited
    assert first > 30
    assert later == [15], "one short look, whether it answers again"
    assert hands.unlock(None, prune=True)
    with pytest.raises(HostFault, match="given up"):
        host.call(PROBE, deadline_s=30)
    assert len(session.waited) == 2


def test_a_lock_that_hangs_is_tried_again_for_a_short_time(monkeypatch: pytest.MonkeyPatch) -> None:
    hands, _, session = hung(monkeypatch)
    assert hands.unlock(None, prune=True)
    assert session.waited == [30, 15]


def test_a_host_that_answers_after_it_hung_has_all_its_time_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    _, host, session = hung(monkeypatch)
    with pytest.raises(HostFault, match="did not end"):
        host.call(PROBE, deadline_s=30)
    session.well = True
    for _ in range(2):
        host.call(PROBE, deadline_s=30)
    assert session.waited == [30, 15, 30]
    session.well = False
    for insist in (False, True):
        with pytest.raises(HostFault, match="did not end"):
            host.call(PROBE, deadline_s=30, insist=insist)
    assert session.waited[3:] == [30, 30], "what must be tried is tried in full"


def test_a_large_fleet_is_not_entered_all_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    begun: list[str] = []
    monkeypatch.setattr(RemoteHost, "connect_early", lambda host: begun.append(host.name))
    inventory = fleet.inventory(WIDTH + 3, "process")
    assert len(remote.connect_fleet(inventory, early=True)) == WIDTH + 3
    assert len(begun) == WIDTH
    begun.clear()
    remote.connect_fleet(inventory)
    assert begun == []


class Recording(Hanging):
    """A session that notes what each line of it was sent."""

    def __init__(self) -> None:
        super().__init__()
        self.well = True
        self.sent: list[bytes] = []

    def converse(self, command: str, timeout_s: float) -> Hanging:
        self.sent.append(b"")
        return super().converse(command, timeout_s)

    def begin(self, chunk: bytes) -> None:
        self.sent[-1] += chunk

    def ask(
        self, chunks: Iterable[bytes], end: bytes | None, *, deadline_s: float, changes: bool
    ) -> Output:
        self.sent[-1] += b"".join(chunks)
        whole = self.sent[-1].splitlines(keepends=True)[-2:]
        return super().ask(whole, end, deadline_s=deadline_s, changes=changes)


def begun(monkeypatch: pytest.MonkeyPatch) -> tuple[RemoteHost, Recording]:
    session = Recording()
    monkeypatch.setattr(remote, "Session", lambda *_: session)
    monkeypatch.setattr(remote, "Probe", ShowLatch)  # which needs no host's evidence to be answered
    host = RemoteHost(fleet.inventory(1, "process"), "router1", WAY)
    host.connect_early()
    return host, session


def one_request(sent: bytes, request: Request) -> bool:
    """Whether just this was sent, as it always is."""
    return sent == request_bytes(request, sent.split(b" ")[1].decode())


def test_a_probe_that_was_begun_early_is_finished_by_the_next_call(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    host, session = begun(monkeypatch)
    host.call(PROBE, deadline_s=5)
    assert len(session.sent) == 1
    assert one_request(session.sent[0], PROBE)


@pytest.mark.parametrize("late", [False, True])
def test_what_was_begun_is_given_up_for_another_request_and_when_it_is_late(
    monkeypatch: pytest.MonkeyPatch, *, late: bool
) -> None:
    if late:
        monkeypatch.setattr(remote, "_BEGUN_S", 0.0)
    host, session = begun(monkeypatch)
    wanted = PROBE if late else MarkHold(token=1, verdict="MIXED", holder="a", plan="b", next="c")
    host.call(wanted, deadline_s=5)
    first, second = session.sent
    assert first.endswith(b" latch\n")
    assert first.count(b"\n") == 1
    assert one_request(second, wanted)


def test_no_empty_line_gets_into_what_was_begun() -> None:
    sent: list[bytes] = []

    class Line:
        def settimeout(self, _: float) -> None:
            pass

        def send(self, chunk: bytes) -> int:
            sent.append(bytes(chunk))
            return len(chunk)

        sendall = send

        def recv(self, _: int) -> bytes:
            return b"\ndeploytool 0a end ok\n"

    conversation = Conversation(Line())  # type: ignore[arg-type] # what of it is used
    conversation.keep_alive()
    conversation.begin(b"half\n")
    conversation.keep_alive()
    conversation.ask([b"rest\n"], b"deploytool 0a end ", deadline_s=5, changes=False)
    conversation.keep_alive()
    assert sent == [b"\n", b"half\n", b"rest\n", b"\n"]


class Ending(Hanging):
    """A session whose command ends without a word, as the helper of deploytool 0.1.0 does."""

    def __init__(self, status: int, errors: bytes = b"") -> None:
        super().__init__()
        self._ended = Output(status, b"Welcome!\n", errors)

    def ask(
        self, chunks: Iterable[bytes], end: bytes | None, *, deadline_s: float, changes: bool
    ) -> Output:
        assert chunks
        assert end
        assert deadline_s
        assert isinstance(changes, bool)
        return self._ended


@pytest.mark.parametrize(
    ("status", "errors", "kind", "code", "word"),
    [
        (0, b"", FaultKind.AGENT, "other-version", "deploytool 0.1.0: prepare it again"),
        (127, b"sh: helper: not found", FaultKind.AGENT, "missing", "not found"),
        (1, b"sudo: helper: command not found\n", FaultKind.AGENT, "missing", "not found"),
        (1, b"sudo: a password is required", FaultKind.RIGHTS, "", "sudo"),
        (1, b"odd", FaultKind.PROTOCOL, "", "odd"),
    ],
)
def test_a_command_that_answers_nothing_says_why(
    monkeypatch: pytest.MonkeyPatch,
    status: int,
    errors: bytes,
    kind: FaultKind,
    code: str,
    word: str,
) -> None:
    monkeypatch.setattr(remote, "Session", lambda *_: Ending(status, errors))
    host = RemoteHost(fleet.inventory(1, "process"), "router1", WAY)
    with pytest.raises(HostFault, match=word) as caught:
        host.call(PROBE, deadline_s=5)
    assert (caught.value.kind, caught.value.code, caught.value.in_doubt) == (kind, code, False)


def test_a_large_fleet_is_not_short_of_descriptors() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(1024, hard), hard))
        remote.connect_fleet(inventory())
        assert resource.getrlimit(resource.RLIMIT_NOFILE) == (hard, hard)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
