"""--verbose and --log-file: what is exchanged with hosts is shown, and no secret with it."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from deploytool.agent.model import Asked
from deploytool.agent.protocol import answer_bytes
from deploytool.agent.requests import (
    Answer,
    FlagStep,
    Halt,
    LookAfterStop,
    LookAnswer,
    RenewLease,
    Request,
    Resume,
    Staged,
    StageRelease,
    Surveyed,
    TakeLock,
    Told,
)
from deploytool.cli.entry import common_first, log_stop
from deploytool.errors import FaultKind, HostFault
from deploytool.fleet.exchange_log import LOG, ExchangeLog
from deploytool.fleet.host import Payload
from deploytool.fleet.remote import RemoteHost
from deploytool.parity.round import probe_request
from deploytool.simulation import fleet
from deploytool.stop.channel import SshChannel

from .arming.fleets import NEW_BUILD, rendered
from .test_inventory import KEY, SMALL

SHA = "a" * 64
SECRET = "5ec4e7"
TOOL = [sys.executable, "-c", "from deploytool.cli.entry import main; main()"]


@pytest.fixture
def lines(tmp_path: Path) -> Iterator[Any]:
    """Logs to a file; gives what is in it, line by line, without the moments."""
    LOG.open(str(tmp_path / "log"))
    yield lambda: [line.partition(" ")[2] for line in (tmp_path / "log").read_text().splitlines()]
    LOG.close()


def asked(request: Request, answer: Answer | None = None) -> None:
    with LOG.asks("router1", request.verb, request) as exchange:
        exchange.answer = answer


REQUESTS: list[tuple[Request, str]] = [
    (FlagStep(step="prepare", flag="RETAIL", size=812), "flag step=prepare flag=RETAIL size=812"),
    (RenewLease(nonce=SECRET), "lease nonce=*"),
    (Resume(latch=SECRET, size=9), "resume latch=* size=9"),
    (Halt(latch=SECRET, by=SECRET, reason=SECRET, since=1, seconds=2),
     "halt latch=* by=* reason=* since=1 seconds=2"),
    (TakeLock(holder="anna@desk", purpose="deploy", plan="p1", release=SHA, take_over=723),
     "lock holder=anna@desk purpose=deploy plan=p1 release=SHA take_over=*"),
    (StageRelease(token=7, release=SHA, artifact_size=5, manifest=SHA, manifest_size=6, seconds=1),
     "stage token=* release=SHA artifact_size=5 manifest=SHA manifest_size=6 seconds=1"),
]  # fmt: skip


@pytest.mark.parametrize(("request_", "shown"), REQUESTS, ids=lambda given: str(given)[:12])
def test_a_request_is_one_line_without_its_secrets(
    request_: Request, shown: str, lines: Any
) -> None:
    asked(request_)
    assert lines()[0].replace(SHA[:12], "SHA") == f"router1 > {shown}"
    assert lines()[1].startswith(f"router1 < {request_.verb} 0.0")
    assert SECRET not in str(lines())


def test_what_a_service_says_is_not_shown(lines: Any) -> None:
    asked(
        FlagStep(step="observe"),
        Told(said=Asked(way="socket", code=0, answer=SECRET, errors=SECRET)),
    )
    assert lines()[1].endswith("ok said={way=socket code=0}")


def test_evidence_is_shown_by_what_runs(lines: Any) -> None:
    """Of a real answer: no argument, environment, token or path of a host's processes."""
    shown = fleet.running("router1", rendered(), *NEW_BUILD).call(probe_request(), deadline_s=5)
    assert isinstance(shown, LookAnswer)
    asked(probe_request(), shown)
    words = lines()[1].partition(": ok ")[2]
    assert words.startswith("evidence={current=")
    assert set("".join(words.split("=")[1:]).replace("evidence", "")) <= set(
        "abcdefghijklmnopqrstuvwxyz0123456789{} =/"
    )
    assert len(words) < 200


def test_a_field_that_is_new_is_masked(lines: Any) -> None:
    class Novel(Request):
        verb = "novel"
        password: Word  # type: ignore[name-defined] # noqa: F821 a field's annotation is its check

    asked(Novel(password=SECRET))
    assert lines()[0] == "router1 > novel password=*"


def test_a_fault_is_told_and_no_line_is_broken(lines: Any) -> None:
    fault = HostFault(FaultKind.LOST, "gone\nrouter2 < stage 0.1 s: ok\x1b[2J", in_doubt=True)
    with pytest.raises(HostFault), LOG.asks("router1", "stage", None, 1024):
        raise fault
    first, second = lines()
    assert first == "router1 > stage +1024 bytes"
    assert second.endswith("s: LOST, in doubt: gone router2 < stage 0.1 s: ok [2J")


def test_an_interruption_is_told(lines: Any) -> None:
    with pytest.raises(KeyboardInterrupt), LOG.asks("router1", "probe", None):
        raise KeyboardInterrupt
    assert ": KeyboardInterrupt:" in lines()[1]


def test_a_remote_host_tells_each_call_and_never_its_payload(
    lines: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def call(*_: object, **__: object) -> Answer:
        return Staged(sent=True, direct=False)

    monkeypatch.setattr(RemoteHost, "_call", call)
    host = RemoteHost(None, "router7")  # type: ignore[arg-type] # nothing is connected
    payload = Payload(6, lambda: iter([SECRET.encode()]))
    host.call(REQUESTS[-1][0], deadline_s=1, payload=payload)
    assert lines()[0].startswith("router7 > stage token=* ")
    assert lines()[0].endswith(" +6 bytes")
    assert lines()[1].endswith(": ok sent=yes direct=no")
    assert SECRET not in str(lines())


def test_a_line_of_a_stop_tells_its_answer_and_its_end(lines: Any, tmp_path: Path) -> None:
    """By a real process: it answers the first question, and is let go with the second open."""
    whole = answer_bytes("NONCE", Surveyed.from_json({"survey": {}})).decode()
    script = tmp_path / "agent"
    script.write_text(
        "read -r format nonce verb; read -r rest\n"
        f"printf '%s' '{whole}' | sed \"s/NONCE/$nonce/\"\ncat >/dev/null\n"
    )
    line = SshChannel(("sh", str(script)), "router3")
    try:
        line.ask(LookAfterStop())
        while line.hear() is None:
            os.sched_yield()
        line.ask(RenewLease(nonce=SECRET))
    finally:
        line.close()
    assert [text.split(" ")[1:3] for text in lines()] == [
        [">", "survey"], ["<", "survey"], [">", "lease"], ["<", "lease"],
    ]  # fmt: skip
    assert lines()[-1].endswith("LOST: not waited for any longer")
    assert SECRET not in str(lines())


# --- the file -----------------------------------------------------------------------------------


def test_the_file_is_its_owners_and_is_appended_to(tmp_path: Path) -> None:
    path = tmp_path / "log"
    before = os.umask(0)
    try:
        for _ in range(2):
            log = ExchangeLog()
            log.open(str(path))
            log.asks("router1", "probe", None)
            log.close()
            assert not log.on
    finally:
        os.umask(before)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert path.read_text().count("router1 > probe\n") == 2


def test_what_is_no_file_is_refused_at_once(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path, tmp_path / "pipe", tmp_path / "none" / "log", Path("/dev/null")):
        with pytest.raises(OSError, match=r"\w"):
            ExchangeLog().open(str(path))


def test_a_long_answer_is_one_bounded_line(tmp_path: Path) -> None:
    log = ExchangeLog()
    log.open(str(tmp_path / "log"))
    log.asks("r" * 5000, "probe", None)
    log.close()
    assert len((tmp_path / "log").read_bytes()) <= 1001 + len("2026-11-30T00:00:00.000Z ")


# --- the command line ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("typed", "common", "others"),
    [
        ("status -i x", "", "status -i x"),
        ("status --verbose -i x", "--verbose", "status -i x"),
        ("stop --all --log-file f -i x", "--log-file f", "stop --all -i x"),
        ("--log-file=f stop -i x", "--log-file=f", "stop -i x"),
        ("status --log-file", "--log-file", "status"),
        ("plan -- --verbose", "", "plan -- --verbose"),
    ],
)
def test_they_may_be_typed_anywhere(typed: str, common: str, others: str) -> None:
    assert common_first(typed.split()) == (common.split(), others.split())


def run(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    (folder / "fleet.yaml").write_text(SMALL)
    (folder / "known_hosts").write_text(f"198.51.100.1 {KEY}\n")
    return subprocess.run(
        [*TOOL, *words, "-i", "fleet.yaml"], cwd=folder, capture_output=True, text=True, timeout=60
    )


def test_a_log_that_cannot_be_written_is_bad_input(tmp_path: Path) -> None:
    done = run(tmp_path, "status", "--log-file", "none/log")
    assert done.returncode == 2
    assert "The log none/log can't be written: No such file or directory." in done.stderr


def test_p6_a_log_that_cannot_be_written_stops_no_stop(tmp_path: Path) -> None:
    done = run(tmp_path, "stop", "--host", "nowhere", "--log-file", "none/log")
    assert "No log is written: [Errno 2] No such file or directory: 'none/log'\n" in done.stderr
    assert "nowhere" in done.stderr.partition("'none/log'\n")[2]


@pytest.mark.parametrize(
    "common", ["", "--log-file", "--log-file=", "--log-file=\0", "--verbose --log-file"]
)
def test_p6_no_option_of_the_log_breaks_a_stop(common: str) -> None:
    try:
        log_stop(common.split())
        assert LOG.verbose == ("--verbose" in common)
    finally:
        LOG.verbose = False


def test_help_tells_of_them() -> None:
    done = subprocess.run([*TOOL, "--help"], capture_output=True, text=True, timeout=60)
    assert "--verbose" in done.stdout
    assert "--log-file" in done.stdout
