"""What may hang is done in a child, and costs the agent no more than its deadline."""

from __future__ import annotations

import errno
import os
import pwd
import socket
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from deploytool.agent.linux import aside
from deploytool.agent.linux.machine import LinuxMachine
from tests.agent.linux.conftest import as_root

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import NoReturn

HANGS_S = 60.0


@pytest.fixture(autouse=True)
def no_child_is_left() -> Iterator[None]:
    before = children()
    yield
    assert children() == before


def children() -> list[str]:
    found = Path(f"/proc/self/task/{os.getpid()}/children")
    return sorted(found.read_text().split())


def hang(_name: str) -> NoReturn:
    time.sleep(HANGS_S)
    raise AssertionError


def test_it_gives_what_the_work_gave_or_its_error() -> None:
    assert aside.aside(lambda: b"a b\n", "work", deadline_s=5.0) == b"a b\n"
    with pytest.raises(PermissionError, match="work"):
        aside.aside(_denied, "work", deadline_s=5.0)
    # A child that ends and writes nothing gave no result.
    with pytest.raises(OSError, match="work") as raised:
        aside.aside(lambda: os._exit(0), "work", deadline_s=5.0)
    assert raised.value.errno == errno.EIO


def _denied() -> bytes:
    raise PermissionError(errno.EACCES, "no")


def test_one_that_hangs_is_killed_and_holds_nothing_of_the_agent() -> None:
    reads, writes = os.pipe()
    other = os.fork()
    if other == 0:  # as an agent that is killed itself while it waits
        try:
            aside.aside(lambda: hang(""), "work", deadline_s=1.0)
        finally:
            os._exit(0)
    os.close(writes)
    time.sleep(0.2)
    os.kill(other, 9)
    os.waitpid(other, 0)
    assert os.read(reads, 1) == b""  # the child holds no end of it, so this is its end at once
    os.close(reads)
    with pytest.raises(TimeoutError):
        aside.aside(lambda: hang(""), "work", deadline_s=0.2)


def test_a_directory_of_accounts_that_hangs_is_no_answer(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    assert LinuxMachine().account("root") == 0
    assert LinuxMachine().account("no-such-account") is None
    monkeypatch.setattr(pwd, "getpwnam", hang)
    monkeypatch.setattr(aside, "ACCOUNT_S", 0.2)
    with pytest.raises(TimeoutError, match="no-such-account"):
        LinuxMachine().account("no-such-account")
    with socket.socket(socket.AF_UNIX) as listening, socket.socket(socket.AF_UNIX) as asked:
        listening.bind(str(tmp_path / "ask"))
        listening.listen()
        with pytest.raises(TimeoutError):
            aside.connect(asked, str(tmp_path / "ask"), "root", 0.2)


def test_the_account_can_not_signal_the_child_that_has_its_rights() -> None:
    """kill(2) goes by the real and the saved user of whom it would signal."""
    as_root()

    def users() -> bytes:
        aside._act_as("nobody")
        return " ".join(map(str, os.getresuid())).encode()

    number = pwd.getpwnam("nobody").pw_uid
    assert aside.aside(users, "work", deadline_s=5.0).decode() == f"0 {number} 0"


ROOT = "root:x:0:0:root:/root:/bin/sh\n"


@pytest.mark.parametrize(
    ("sources", "accounts", "number"),
    [
        ("group: files\npasswd:\tfiles systemd # x\n", ROOT + "ann:x:7:7:::\nann:x:8:8:::\n", 7),
        ("passwd: files\n", ROOT, None),
        ("passwd: files\n", "ann:x:-7:7:::\n", None),
        ("passwd: files\n", "ann:x\n", None),
        ("passwd: sss files\n", "ann:x:7:7:::\n", None),
        ("passwd: files\npasswd: sss\n", "ann:x:7:7:::\n", None),
        ("passwd:\n", "ann:x:7:7:::\n", None),
        ("", "ann:x:7:7:::\n", None),
    ],
)
def test_the_file_of_accounts_decides_alone_where_it_is_asked_first(
    sources: str, accounts: str, number: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = {"/etc/nsswitch.conf": sources, "/etc/passwd": accounts}
    monkeypatch.setattr(aside, "read_regular", lambda path, _most: files[path].encode())
    monkeypatch.setattr(aside, "aside", lambda *_args, **_keys: b"99")
    assert aside.account("ann") == (99 if number is None else number)
