"""The one file that a host gets, run as a host runs it: good requests, bad ones, and bad places."""

from __future__ import annotations

import ast
import glob
import hashlib
import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from deploytool.agent.__main__ import AnswerStream
from deploytool.agent.protocol import (
    FIRST_LINE_AT_MOST,
    REQUEST_AT_MOST,
    answer_begin,
    answer_end,
    arrived,
    parse_answer,
    request_bytes,
)
from deploytool.agent.requests import (
    Halt,
    LatchShown,
    LogShown,
    LookAnswer,
    Probe,
    RefusedAnswer,
    RenewLease,
    ShowLatch,
    ShowLog,
    Told,
)
from deploytool.fleet.agent_file import MARKER, _lean, agent_digest, agent_file
from tests.unable import unable

from .conftest import NONCE, PYTHON, Place, Ran, as_root, settings_for

LATCH = request_bytes(ShowLatch(), NONCE)
PROBE = request_bytes(Probe(), NONCE)


def refusal(ran: Ran) -> RefusedAnswer:
    found = parse_answer(ran.output, NONCE, ShowLatch())
    assert isinstance(found, RefusedAnswer), ran
    return found


def test_it_is_the_same_bytes_each_time_and_ascii_where_the_shell_reads(place: Place) -> None:
    content = agent_file(place.settings)
    assert content == agent_file(place.settings)
    code = (
        "import sys;sys.path.insert(0,sys.argv[1]);from pathlib import Path;"
        "from deploytool.fleet.agent_file import agent_file;"
        "from deploytool.agent.settings import Settings;import json;"
        "s=Settings.from_json(json.loads(sys.stdin.read()));"
        "sys.stdout.buffer.write(agent_file(s))"
    )
    source = str(Path(__file__).parents[3])
    for variables in ({"LANG": "C", "PYTHONHASHSEED": "1"}, {"PYTHONHASHSEED": "2", "TZ": "UTC+9"}):
        again = subprocess.run(
            ["python3", "-c", code, source],
            input=json.dumps(place.settings.to_json()).encode(),
            capture_output=True,
            env={**os.environ, **variables},
        )
        assert again.stdout == content, again.stderr
    content.partition(MARKER.encode())[0].decode("ascii")
    assert agent_digest(place.settings) == hashlib.sha256(content).hexdigest()


def test_it_says_the_digest_of_the_very_file_that_runs(place: Place) -> None:
    place.write_agent(lambda content: content + b"\n")
    shown = place.ask(Probe())
    assert isinstance(shown, LookAnswer), shown
    assert shown.evidence.agent == hashlib.sha256(place.agent.read_bytes()).hexdigest()
    assert shown.evidence.agent != agent_digest(place.settings)


def test_several_requests_are_answered_in_turn(place: Place) -> None:
    ran = place.raw(LATCH * 3)
    answers = (answer_begin(NONCE) + b"{}\n" + answer_end(NONCE) + b"ok\n") * 3
    assert ran.output == b"\n" + arrived(NONCE) + answers
    assert (ran.code, ran.errors) == (0, b"")


def test_it_ends_after_a_refusal(place: Place) -> None:
    ran = place.raw(b'deploytool/2 0a1b latch\n{"x":1}\n' + LATCH)
    assert ran.output.count(b" end ") == 1
    assert refusal(ran).code == "bad-request"
    assert ran.code == 0


NOT_REQUESTS = [
    b"",
    b"GET / HTTP/1.1\n",
    b"deploytool/2\n",
    b"deploytool/2 0a1b\n",
    b"deploytool/3 0a1b latch\n",
    b"deploytool/2 0A1B latch\n{}\n",
    b"deploytool/2 $(touch x) latch\n",
    b"deploytool/2 0a1b latch;touch\n",
    b"deploytool/2 0a1b latch extra\n",
    b"deploytool/2  latch\n",
    b"deploytool/2 0a1b latch",
    b"\xff\xfe\x00\n",
    b"deploytool/2 0a1b ../latch\n",
    b"-n\n",
    b"deploytool/2 0a1b latch\\\n{}\n",
]


@pytest.mark.parametrize("sent", NOT_REQUESTS)
def test_what_is_no_request_is_not_answered(place: Place, sent: bytes) -> None:
    ran = place.raw(sent + LATCH if b"\n" in sent else sent)
    assert ran.output == b"", ran
    assert ran.code in {0, 64}


BAD_BODIES = [
    b"",
    b"{}",
    b"\n",
    b"null\n",
    b"[]\n",
    b"1\n",
    b'{"a":1,"a":1}\n',
    b"{" * 1000 + b"\n",
    b"[" * 100_000 + b"\n",
    b'{"x":' + b"9" * 5000 + b"}\n",
    b'{"x":NaN}\n',
    b"\xff\n",
    b"{}" + b" " * REQUEST_AT_MOST + b"\n",
    b"x" * (2 * REQUEST_AT_MOST) + b"\n",
]


@pytest.mark.parametrize("body", BAD_BODIES, ids=range(len(BAD_BODIES)))
def test_a_body_that_is_not_an_honest_one_is_refused(place: Place, body: bytes) -> None:
    ran = place.raw(b"deploytool/2 0a1b latch\n" + body)
    assert refusal(ran).code == "bad-request"
    assert ran.code == 0


@pytest.mark.parametrize(
    "body",
    [
        '{"token":3,"release":"R","pid":-1,"start":1,"boot":"b"}',
        '{"token":3,"release":"R","pid":1,"start":1,"boot":"b"}',
        '{"token":3,"release":"R","pid":08,"start":1,"boot":"b"}',
        '{"token":3,"release":"R","pid":"8","start":1,"boot":"b"}',
        '{"token":3,"release":"R","pid":8.0,"start":1,"boot":"b"}',
        '{"token":true,"release":"R","pid":8,"start":1,"boot":"b"}',
        '{"token":9007199254740993,"release":"R","pid":8,"start":1,"boot":"b"}',
        '{"token":1e400,"release":"R","pid":8,"start":1,"boot":"b"}',
    ],
)
def test_numbers_out_of_range_are_refused(place: Place, body: str) -> None:
    sent = f"deploytool/2 0a1b confirm\n{body.replace('R', 'a' * 64)}\n"
    assert refusal(place.raw(sent.encode())).code == "bad-request"


def test_a_first_line_without_end_has_a_bound(place: Place) -> None:
    """The shell reads it; its memory is bounded, and it ends with the input at the latest."""
    ran = place.raw(b"x" * 1_000_000)
    assert ran.output == b""
    # Later ones are read by Python.
    ran = place.raw(LATCH + b"deploytool/2 " + b"0" * FIRST_LINE_AT_MOST * 10 + b" latch\n{}\n")
    assert ran.output.count(b" end ok") == 1
    assert ran.code == 70


def test_a_verb_of_another_version_is_refused(place: Place) -> None:
    for before in (b"", LATCH):
        ran = place.raw(before + b"deploytool/2 0a1b evaporate\n{}\n")
        ran.output = ran.output[len(before and place.raw(before).output) :]
        assert refusal(ran).code == "other-version"


def test_requests_of_version_1_are_refused_in_its_own_format(place: Place) -> None:
    text = b"deploytool 0a1b end refused other-version "
    for verb in (b"probe", b"quiesce", b"latch", b"flag_observe"):
        ran = place.raw(b"deploytool/1 0a1b " + verb + b"\n.\n")
        assert answer_begin(NONCE) + text in ran.output
        assert ran.code == 0
    ran = place.raw(LATCH + b"deploytool/1 0a1b fence\n.\n")
    assert text in ran.output


def test_input_that_comes_in_pieces_is_read(place: Place) -> None:
    with subprocess.Popen(
        [place.agent], stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=place.environment
    ) as agent:
        assert agent.stdin is not None
        assert agent.stdout is not None
        for byte in LATCH + LATCH:
            agent.stdin.write(bytes([byte]))
            agent.stdin.flush()
            time.sleep(0.002)
        agent.stdin.close()
        assert agent.stdout.read().count(b" end ok\n") == 2


def test_it_gets_ready_when_a_request_begins_and_does_nothing_before_it_is_whole(
    place: Place,
) -> None:
    line, body = PROBE.split(b"\n", 1)
    with conversation(place) as agent:
        assert agent.stdout is not None
        send(agent, line + b"\n")
        found = b""
        while answer_begin(NONCE) not in found:
            found += os.read(agent.stdout.fileno(), 65536)
        assert answer_end(NONCE) not in found
        send(agent, body)
        assert isinstance(parse_answer(found + read_answer(agent), NONCE, Probe()), LookAnswer)
        send(agent, line + b"\n")
        assert agent.stdin is not None
        agent.stdin.close()
        assert b'"bad-request"' in read_answer(agent)
        assert agent.wait(20) == 0


def test_it_ends_when_only_the_rest_of_a_request_is_missing_and_it_is_told_to(
    place: Place,
) -> None:
    with conversation(place) as agent:
        assert agent.stdout is not None
        send(agent, PROBE.split(b"\n", 1)[0] + b"\n")
        found = b""
        while answer_begin(NONCE) not in found:
            found += os.read(agent.stdout.fileno(), 65536)
        agent.send_signal(signal.SIGTERM)
        assert agent.wait(20) == 0


def test_an_empty_line_only_keeps_the_connection_from_being_cut(place: Place) -> None:
    for sent in (b"\n\n" + LATCH, LATCH + b"\n\n\n" + LATCH + b"\n", b"\n"):
        ran = place.raw(sent)
        assert (ran.code, ran.output.count(b" end ok\n")) == (0, sent.count(LATCH)), ran
    fence = place.raw(b"\ndeploytool/1 0a1b look\n.\n")
    assert b"deploytool 0a1b end ok" in fence.output


def test_input_that_another_program_made_non_blocking_is_waited_for(place: Place) -> None:
    reads, writes = os.pipe()
    with conversation(place, stdin=reads) as agent:
        os.write(writes, LATCH)
        read_answer(agent)
        # One open pipe has one such flag, for all that share it (open(2)).
        os.set_blocking(reads, False)
        for byte in LATCH:
            os.write(writes, bytes([byte]))
            time.sleep(0.002)
        read_answer(agent)
        os.close(writes)
        assert agent.wait(20) == 0
    os.close(reads)


def test_an_answer_is_written_whole_to_a_slow_reader() -> None:
    reads, writes = os.pipe()
    os.set_blocking(writes, False)
    content = bytes(range(256)) * 4000
    with subprocess.Popen(
        ["sh", "-c", "sleep 0.3; sha256sum"], stdin=reads, stdout=subprocess.PIPE
    ) as reader:
        os.close(reads)
        assert AnswerStream(writes).write(content)
        os.close(writes)
        assert reader.stdout is not None
        assert reader.stdout.read().split()[0].decode() == hashlib.sha256(content).hexdigest()
    reads, writes = os.pipe()
    os.close(reads)
    assert not AnswerStream(writes).write(content)
    os.close(writes)


@contextmanager
def conversation(
    place: Place, *before: str, stdin: int = subprocess.PIPE, **options: object
) -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen(  # type: ignore[call-overload] # as given
        [*before, place.agent],
        stdin=stdin,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=place.environment,
        **options,
    ) as agent:
        try:
            yield agent
        finally:
            agent.kill()


def read_answer(agent: subprocess.Popen[bytes]) -> bytes:
    """Reads whatever comes until an answer's end."""
    assert agent.stdout is not None
    found = b""
    while answer_end(NONCE) not in found or not found.endswith(b"\n"):
        part = os.read(agent.stdout.fileno(), 65536)
        assert part, (found, agent.stderr and agent.stderr.read())
        found += part
    return found


def send(agent: subprocess.Popen[bytes], sent: bytes) -> None:
    assert agent.stdin is not None
    agent.stdin.write(sent)
    agent.stdin.flush()


# --- bad places -------------------------------------------------------------------------------


HOSTILE = {
    "PYTHONPATH": "P",
    "PYTHONHOME": "P",
    "PYTHONSTARTUP": "P/evil.py",
    "PYTHONINSPECT": "1",
    "PYTHONUSERBASE": "P",
    "PYTHONPYCACHEPREFIX": "P",
    "PYTHONBREAKPOINT": "evil",
    "PYTHONIOENCODING": "utf-16",
    "PYTHONVERBOSE": "1",
    "ENV": "P/evil.sh",
    "BASH_ENV": "P/evil.sh",
    "IFS": "0a1b",
    "PATH": "P",
    "HOME": "P",
    "LC_ALL": "tr_TR.UTF-8",
    "CDPATH": "P",
    "TMPDIR": "/nowhere",
    "nonce": "ffff",
    "ROOT": "/",
}


def test_a_hostile_environment_changes_nothing(place: Place, tmp_path: Path) -> None:
    evil = "import os; open(os.path.join(os.path.dirname(__file__), 'struck'), 'w')\n"
    for name in ("evil", "sitecustomize", "usercustomize", "json", "os", "hashlib"):
        (tmp_path / f"{name}.py").write_text(evil)
    (tmp_path / "evil.sh").write_text(f"touch {tmp_path}/struck\n")
    for name in ("python3", "env", "timeout", "systemctl"):
        (tmp_path / name).write_text(f"#!/bin/sh\ntouch {tmp_path}/struck\n")
        (tmp_path / name).chmod(0o755)
    plain = place.raw(LATCH)
    place.environment = {key: value.replace("P", str(tmp_path)) for key, value in HOSTILE.items()}
    assert place.raw(LATCH) == plain
    assert not (tmp_path / "struck").exists()
    assert not list(tmp_path.rglob("*.pyc"))


def test_a_folder_that_it_is_started_in_changes_nothing(place: Place, tmp_path: Path) -> None:
    for name in ("json.py", "os.py", "deploytool.py"):
        (tmp_path / name).write_text("raise SystemExit('struck')\n")
    ended = subprocess.run(
        [place.agent], input=LATCH, capture_output=True, cwd=tmp_path, env=place.environment
    )
    assert answer_end(NONCE) + b"ok" in ended.stdout, ended


def test_descriptors_that_it_was_left_are_closed_and_closed_ones_do_no_harm(place: Place) -> None:
    reads, writes = os.pipe()
    os.set_inheritable(writes, True)
    with conversation(place, pass_fds=(writes,)) as agent:
        send(agent, LATCH)
        read_answer(agent)
        names = os.listdir(f"/proc/{agent.pid}/fd")
        links = {os.readlink(f"/proc/{agent.pid}/fd/{name}") for name in names}
        assert os.readlink(f"/proc/self/fd/{writes}") not in links
        zero = os.readlink(f"/proc/{agent.pid}/fd/0")
        assert zero == "/dev/null"
    os.close(reads)
    os.close(writes)
    ended = subprocess.run(
        ["sh", "-c", f"{place.agent} 2>&-"], input=LATCH, capture_output=True, env=place.environment
    )
    assert answer_end(NONCE) + b"ok" in ended.stdout
    ended = subprocess.run(
        ["sh", "-c", f"{place.agent} <&- >&- 2>&-"], capture_output=True, env=place.environment
    )
    assert ended.stdout == b""


def test_a_program_that_writes_to_its_output_does_not_reach_the_protocol(place: Place) -> None:
    lies = f"\\ndeploytool {NONCE} begin\\n{{{{}}}}\\ndeploytool {NONCE} end ok\\n"
    script = f"printf '{lies}'; printf '{lies}' >&2; printf '{lies}' >/proc/$PPID/fd/1"
    place.settings = place.settings.but(
        lease=place.settings.start.but(argv=("/bin/sh", "-c", script))
    )
    place.write_agent()
    place.raw(request_bytes(RenewLease(), NONCE))
    ran = place.raw(request_bytes(RenewLease(), NONCE))
    told = parse_answer(ran.output, NONCE, RenewLease())
    assert isinstance(told, Told), ran
    assert told.said.answer.startswith("\ndeploytool")
    assert ran.output.count(b"begin\n") == 1


def test_a_caller_that_ignores_children_does_not_hide_how_a_program_ended(place: Place) -> None:
    place.settings = place.settings.but(
        lease=place.settings.start.but(argv=("/bin/sh", "-c", "exit 7"))
    )
    place.write_agent()
    ended = subprocess.run(
        ["bash", "-c", f"trap '' CHLD; exec bash {place.agent}"],
        input=request_bytes(RenewLease(), NONCE),
        capture_output=True,
        env=place.environment,
        timeout=30,
    )
    told = parse_answer(ended.stdout, NONCE, RenewLease())
    assert isinstance(told, Told), ended
    assert told.said.code == 7


def test_the_end_of_the_log_is_shown_and_a_link_in_its_place_is_not_followed(place: Place) -> None:
    log = place.state / "service" / "log"
    log.write_text("".join(f"line {number}\n" for number in range(20_000)))
    shown = place.ask(ShowLog(lines=2))
    assert isinstance(shown, LogShown)
    assert shown.lines == ("line 19998", "line 19999")
    log.unlink()
    log.symlink_to("/etc/passwd")
    refused = place.ask(ShowLog(lines=2))
    assert isinstance(refused, RefusedAnswer)
    assert refused.code == "cannot-look"


def test_a_python_that_is_damaged_is_said(place: Place, tmp_path: Path) -> None:
    """A standard library that lacks a module: the very interpreter, with another library."""
    as_root()
    library = _library()
    copy = tmp_path / library.name
    subprocess.run(["cp", "-a", "--reflink=auto", library, copy], check=True)
    (copy / "hashlib.py").write_text("import missing_module\n")
    script = f"mount --bind {copy} {library} && exec {place.agent}"
    ended = subprocess.run(
        ["unshare", "--mount", "sh", "-c", script],
        input=LATCH,
        capture_output=True,
        env=place.environment,
    )
    found = refusal(Ran(ended.stdout, ended.stderr, ended.returncode))
    assert found.code == "lacks-program"
    assert "ModuleNotFoundError missing_module" in found.text
    look = b"deploytool/1 0a1b look\n.\n"
    for damage in (f"mount --bind {copy} {library}", f"mount --bind /bin/false {_interpreter()}"):
        ended = subprocess.run(
            ["unshare", "--mount", "sh", "-c", f"{damage} && exec {place.agent}"],
            input=look,
            capture_output=True,
            env=place.environment,
        )
        assert answer_end(NONCE) + b"ok" in ended.stdout, ended


def _library() -> Path:
    code = "import os; print(os.path.dirname(os.__file__))"
    ended = subprocess.run([PYTHON, "-I", "-S", "-c", code], capture_output=True, text=True)
    if ended.returncode:
        unable(f"there is no {PYTHON}")
    return Path(ended.stdout.strip())


def _interpreter() -> Path:
    return Path(PYTHON).resolve()


def test_an_old_python_is_said(place: Place) -> None:
    def old(content: bytes) -> bytes:
        return content.replace(b"sys.version_info < (3, 9)", b"sys.version_info < (9, 9)")

    place.write_agent(old)
    found = refusal(place.raw(LATCH))
    assert found.code == "lacks-program"
    assert found.text.startswith("Python 3.9 or newer is needed on this host; ")


def _pythons() -> list[str]:
    """Every Python 3 of this machine, wherever its owner keeps them."""
    found = {}
    folders = [*os.get_exec_path(), *glob.glob(os.path.expanduser("~/.pyenv/versions/*/bin"))]
    for folder in folders:
        for path in glob.glob(f"{folder}/python3.[0-9]*"):
            if path.rpartition(".")[2].isdigit() and "/shims/" not in path:
                found[os.path.realpath(path)] = path
    return sorted(found.values(), key=lambda path: int(path.rpartition(".")[2]))


@pytest.mark.parametrize("python", _pythons())
def test_every_python_answers_or_says_that_it_is_too_old(place: Place, python: str) -> None:
    place.settings = place.settings.but(python=python)
    place.write_agent()
    if int(python.rpartition(".")[2]) < 9:
        found = refusal(place.raw(LATCH))
        assert found.code == "lacks-program"
        assert "Python 3.9 or newer is needed" in found.text
        return
    shown = place.ask(Probe())
    assert isinstance(shown, LookAnswer), shown
    assert shown.evidence.machine == Path("/etc/machine-id").read_text().strip()
    ran = place.raw(LATCH)
    assert (ran.errors, ran.code) == (b"", 0)


def test_another_python_is_one_that_only_root_may_change(place: Place) -> None:
    """What leads to it counts too: a link below a folder that is everyone's."""
    link = place.root / "python3"
    link.symlink_to(PYTHON)
    for path, why in ((link, "can be changed by others"), (Path("/no/python3"), "is not on this")):
        place.settings = place.settings.but(python=str(path))
        place.write_agent()
        found = refusal(place.raw(LATCH))
        assert found.code == "lacks-program"
        assert found.text.startswith(f"{path} {why}"), found


def test_its_first_lines_are_read_by_any_python() -> None:
    """What checks the version must not itself be too new; nor be what the shell would end."""
    stub = (Path(__file__).parents[3] / "deploytool" / "agent" / "stub.sh").read_text()
    boot = stub.partition("BOOT='")[2].partition("'\n")[0]
    assert "'" not in boot
    ast.parse(boot, feature_version=(3, 4))


# --- ends -------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGINT, signal.SIGPIPE])
def test_signals_of_a_lost_connection_do_not_end_it(place: Place, number: int) -> None:
    with conversation(place) as agent:
        send(agent, LATCH)
        read_answer(agent)
        agent.send_signal(number)
        send(agent, LATCH)
        read_answer(agent)


def test_it_ends_when_it_waits_and_is_told_to(place: Place) -> None:
    with conversation(place) as agent:
        send(agent, LATCH)
        read_answer(agent)
        agent.send_signal(signal.SIGTERM)
        assert agent.wait(20) == 0


def slow(place: Place) -> Path:
    """Has ``lease`` take half a second; gives the file that it makes at its end."""
    done = place.state / "service" / "done"
    script = f"sleep 0.5; touch {done}"
    place.settings = place.settings.but(
        lease=place.settings.start.but(argv=("/bin/sh", "-c", script))
    )
    place.write_agent()
    return done


def test_what_is_in_progress_is_carried_to_its_end(place: Place) -> None:
    done = slow(place)
    renew = request_bytes(RenewLease(), NONCE)
    with conversation(place) as agent:
        assert agent.stdin is not None
        assert agent.stdout is not None
        agent.stdin.write(renew)
        agent.stdin.close()
        heard = b""
        while answer_begin(NONCE) not in heard:
            heard += os.read(agent.stdout.fileno(), 100)
        agent.stdout.close()  # the connection is gone
        for number in (signal.SIGHUP, signal.SIGTERM):
            agent.send_signal(number)
        agent.wait(20)
    assert done.exists()


def test_a_halt_that_no_one_waits_for_any_more_is_not_carried_out(place: Place) -> None:
    """The last rungs have been told meanwhile: Python was too slow for the one who asked."""
    halt = Halt(latch="ab12", by="ann", reason="r", since=1796000000, seconds=1)
    reads, writes = os.pipe()
    os.close(reads)
    try:
        subprocess.run(
            [place.agent], input=request_bytes(halt, NONCE), stdout=writes, check=False,
            stderr=subprocess.DEVNULL, env=place.environment, timeout=60,
        )  # fmt: skip
    finally:
        os.close(writes)
    assert not (place.state / "halted").exists()
    place.ask(halt)
    assert (place.state / "halted").exists()


def test_an_answer_to_nobody_ends_it_without_noise(place: Place) -> None:
    slow(place)
    script = f"(cat; sleep 3) | {place.agent} | head -c 1 >/dev/null"
    ended = subprocess.run(
        ["sh", "-c", script],
        input=request_bytes(RenewLease(), NONCE) * 3,
        capture_output=True,
        env=place.environment,
        timeout=60,
    )
    assert ended.stderr == b""


def test_memory_has_a_bound_and_programs_do_not_inherit_it(place: Place) -> None:
    with conversation(place) as agent:
        send(agent, LATCH)
        read_answer(agent)
        limits = Path(f"/proc/{agent.pid}/limits").read_text()
        line = next(line for line in limits.splitlines() if line.startswith("Max address space"))
        assert line.split()[3] == str(1024**3)
    script = "grep 'Max address space' /proc/self/limits"
    place.settings = place.settings.but(
        lease=place.settings.start.but(argv=("/bin/sh", "-c", script))
    )
    place.write_agent()
    told = place.ask(RenewLease())
    assert isinstance(told, Told)
    assert told.said.answer.split()[3] == "unlimited"


@pytest.mark.parametrize("lacks", ["state", "releases", "."])
def test_a_root_that_is_not_prepared_is_refused(place: Place, lacks: str) -> None:
    (place.root / lacks).resolve().rename(place.root.parent / "away")
    ran = Ran(*_run_from(place, lacks))
    assert refusal(ran).code == "not-prepared"


def _run_from(place: Place, lacks: str) -> tuple[bytes, bytes, int]:
    agent = place.root.parent / "away" / "libexec" / "helper" if lacks == "." else place.agent
    ended = subprocess.run([agent], input=LATCH, capture_output=True, env=place.environment)
    return ended.stdout, ended.stderr, ended.returncode


def test_an_argument_is_refused(place: Place) -> None:
    ended = subprocess.run([place.agent, "x"], input=LATCH, capture_output=True)
    assert (ended.returncode, ended.stdout) == (64, b"")


def test_settings_that_are_another_versions_are_an_error(place: Place) -> None:
    content = agent_file(settings_for(place.root, host="ROUTERX"))
    place.agent.write_bytes(content.replace(b'"host":"ROUTERX"', b'"hosts":"OUTERX"'))
    ran = place.raw(LATCH)
    assert (ran.code, ran.output) == (1, b"\n" + arrived(NONCE))
    assert b"Malformed" in ran.errors


def test_a_mark_that_can_not_be_read_is_a_latch(place: Place) -> None:
    (place.state / "halted").write_bytes(b"\xff" * 10)
    shown = place.ask(ShowLatch())
    assert isinstance(shown, LatchShown)


def test_what_a_host_gets_of_each_module_is_the_same_program() -> None:
    """Without docstrings, comments and what only a type checker reads: nothing else differs."""
    package = Path(__file__).parents[3] / "deploytool" / "agent"
    for path in package.rglob("*.py"):
        source = path.read_text()
        trees = [ast.dump(Lean().visit(ast.parse(text))) for text in (source, _lean(source))]
        assert trees[0] == trees[1], path


class Lean(ast.NodeTransformer):
    """A syntax tree without bare texts and without what stands below ``if TYPE_CHECKING``."""

    def generic_visit(self, node: ast.AST) -> ast.AST:
        super().generic_visit(node)
        body = getattr(node, "body", None)
        if isinstance(body, list):
            typed = isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
            kept = [one for one in body if not typed and not _says_nothing(one)]
            node.body = kept or [ast.Pass()]  # type: ignore[attr-defined] # it has one
        return node


def _says_nothing(node: ast.AST) -> bool:
    text = isinstance(node, ast.Expr) and isinstance(getattr(node.value, "value", None), str)
    return text or isinstance(node, ast.Pass)
