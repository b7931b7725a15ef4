"""What no process, port or time can be is refused, where it is made and where it is read."""

from __future__ import annotations

import pytest

from deploytool.agent import marks
from deploytool.agent.model import Lock, Other, Owner, Process, ReleaseRun, Verified
from deploytool.agent.protocol import parse_json
from deploytool.agent.record import Malformed, Record
from deploytool.agent.requests import Confirm

DIGEST = "0" * 64
MADE: dict[type[Record], dict[str, object]] = {
    Process: {"pid": 2, "parent": 1, "start": 1, "state": "S", "account": 0, "command": "x"},
    ReleaseRun: {
        "pid": 2,
        "how": "fd",
        "inode": "1:2",
        "path": "/x",
        "deleted": False,
        "sha": None,
    },
    Other: {"pid": 2, "role": "acts"},
    Owner: {"port": 1, "pid": 2},
    Verified: {"release": DIGEST, "pid": 2, "start": 1, "boot": "b", "token": 1, "since": 1},
    Confirm: {"token": 1, "release": DIGEST, "pid": 2, "start": 1, "boot": "b"},
}
"""Whatever names a process: its number ends up in a command that is pasted, or is signalled."""


@pytest.mark.parametrize("kind", MADE, ids=lambda kind: kind.__name__)
@pytest.mark.parametrize("pid", [-1, 0, 1, 2**22 + 1, "2", 2.0, True, None, "-1", "2; id"])
def test_a_process_is_one_that_can_be_signalled_alone(kind: type[Record], pid: object) -> None:
    kind(**MADE[kind])
    with pytest.raises(Malformed):
        kind(**MADE[kind] | {"pid": pid})
    with pytest.raises(Malformed):
        kind.from_json(MADE[kind] | {"pid": pid})


@pytest.mark.parametrize("text", ["01", "00", "-1", "+1", "1_0", "1 ", "", "\u0661", "0x1", "1e3"])
def test_a_number_has_one_spelling_in_marks_and_in_messages(text: str) -> None:
    with pytest.raises(Malformed):
        marks.number(text)
    if text not in ("-1", "1 ", "1e3"):
        with pytest.raises(Malformed):
            parse_json(b'{"pid": ' + text.encode() + b"}", 100)


def test_a_mark_with_a_time_that_no_calendar_has_is_unreadable() -> None:
    lock = {"token": 1, "holder": "a", "purpose": "p", "plan": "x", "since": 1}
    Lock.from_json(lock)
    for since in (2**37 + 1, -1, 10**30):
        with pytest.raises(Malformed):
            Lock.from_json(lock | {"since": since})
