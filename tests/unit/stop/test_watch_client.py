"""A watch of every bad kind behind the socket: hosts are told the cold way all the same (P6)."""

from __future__ import annotations

import json
import shutil
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from deploytool.errors import InputError
from deploytool.stop import runner, runtime_dir
from deploytool.stop.model import End, StopRequest
from deploytool.stop.outcome import HostRow, StopOutcome, conclude
from deploytool.stop.runner import Pressed
from deploytool.stop.watch_client import PATIENCE_S, WatchClient, ask

from .bad import ACTIVE
from .conftest import HOSTS, WITNESS_COMMAND, Keys

pytestmark = pytest.mark.slow

TAKING = {"taking": list(HOSTS), "changed": False, "renewals": {}}


class Door:
    """Somebody who listens where a watch does, and says what the test wants it to."""

    def __init__(self, keys: Keys, place: int = 1) -> None:
        self.path = Path(runtime_dir.candidates(str(keys.inventory), ".sock")[place])
        self.path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.bind(str(self.path))
        self.path.chmod(0o600)
        self.socket.listen(4)
        self.asked: list[dict[str, Any]] = []
        self._thread: threading.Thread | None = None

    def say(self, *said: object, stay: bool = False) -> None:
        """Answers one caller with lines; then hangs up, or stays and says nothing more.

        A number is a pause, in seconds.
        """

        def answer() -> None:
            try:
                connection, _ = self.socket.accept()
            except OSError:
                return  # nobody asked, and the door was closed
            with connection.makefile("rb") as stream:
                self.asked.append(json.loads(stream.readline()))
            with suppress(OSError):  # whoever asked has gone: that is for the test to judge
                for one in said:
                    if isinstance(one, float):
                        time.sleep(one)
                    else:
                        line = one if isinstance(one, bytes) else json.dumps(one).encode() + b"\n"
                        connection.sendall(line)
                if stay:
                    connection.recv(1)
            connection.close()

        self._thread = threading.Thread(target=answer, daemon=True)
        self._thread.start()

    def close(self) -> None:
        with suppress(OSError):
            self.socket.shutdown(socket.SHUT_RDWR)
        self.socket.close()
        if self._thread is not None:
            self._thread.join(10)


@pytest.fixture
def door(keys: Keys, runtime: Path) -> Iterator[Door]:
    assert runtime.exists()
    made = Door(keys)
    yield made
    made.close()


@pytest.fixture
def pressed(keys: Keys, monkeypatch: pytest.MonkeyPatch) -> Callable[..., StopOutcome]:
    """Presses the key within this process, so that a test may shorten what is waited for."""
    monkeypatch.setenv("PATH", f"{keys.folder / 'bin'}:/usr/local/bin:/usr/bin:/bin")
    keys.declare()  # without a witness: nobody waits for silence

    def stop(*hosts: str) -> StopOutcome:
        order = StopRequest("me@here", "runaway", "ab", time.time())
        request = {"stop": list(hosts), "only": "", "latch": "ab", "by": "me", "reason": "r"}
        warm, trouble = ask(str(keys.inventory), {**request, "pressed": order.pressed})
        if warm is not None:
            warm.listen(PATIENCE_S)
        try:
            return runner.stop(Pressed(str(keys.inventory), hosts, order), warm, trouble)
        finally:
            if warm is not None:
                warm.close()

    return stop


def row(answer: StopOutcome, host: str) -> HostRow:
    return next(one for one in answer.rows if one.host == host)


def climbed(host: str, end: str = "HALTED") -> dict[str, object]:
    step: object = {"rung": "quiesce", "event": "confirmed", "at_s": 0.05, "text": "by the watch"}
    now = time.time()
    own: dict[str, object] = {"asked": now, "answered": now, "children": 0, "counted_s": 60.0}
    own |= {"last_ago_s": None, "gap_s": None}
    said = {"host": host, "end": end, "at_s": 0.05, "steps": [step], "notes": [], "own": own}
    return {"climbed": said}


def test_a_watch_that_stops_all_is_all_that_it_takes(
    keys: Keys, door: Door, pressed: Callable[..., StopOutcome]
) -> None:
    keys.witness(list(WITNESS_COMMAND))
    heard = [{"heard": host} for host in HOSTS]
    door.say(TAKING, *heard, *map(climbed, HOSTS), {"over": True})
    answer = pressed()
    assert conclude(answer, "x") is None
    assert not any(keys.told(host) for host in HOSTS)
    assert door.asked[0]["stop"] == []


@pytest.mark.parametrize(
    "said",
    [
        [],
        [b"nonsense\n"],
        [7],
        [[]],
        [b"[" * 100_000 + b"\n"],
        [b"x" * (2 * 1024 * 1024)],
        [{}],
        [{"refused": "I am of another version"}],
        [{"taking": 7, "changed": False, "renewals": {}}],
        [{"taking": list(HOSTS)}],
        [TAKING, {"climbed": "router1"}],
        [TAKING, {"heard": "router1"}, climbed("router1", "FINE")],
        [TAKING, {"heard": "router1"}, {"climbed": {"host": "router1"}}],
        [TAKING, *({"heard": host} for host in HOSTS)],
    ],
    ids=lambda said: repr(said)[:60],
)
def test_p6_a_watch_that_is_none_or_dies_delays_nobody(
    keys: Keys, door: Door, pressed: Callable[..., StopOutcome], said: list[object]
) -> None:
    door.say(*said)
    answer = pressed()
    assert all(one.end is End.HALTED and one.at_s < 5 for one in answer.rows), answer
    assert all(keys.told(host) == ["halt"] for host in HOSTS)


def test_p6_a_watch_that_hangs_from_the_start_is_waited_for_an_instant(
    keys: Keys, door: Door, pressed: Callable[..., StopOutcome]
) -> None:
    assert door.path.is_socket()  # it listens, and accepts nobody
    answer = pressed()
    assert all(one.end is End.HALTED and one.at_s < 5 for one in answer.rows), answer
    assert all(keys.told(host) == ["halt"] for host in HOSTS)


def test_p6_a_watch_that_hangs_after_it_began_is_not_waited_for_with_the_others(
    keys: Keys,
    door: Door,
    pressed: Callable[..., StopOutcome],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(runner, "WARM_S", 0.8)
    monkeypatch.setattr(runner, "STOP_S", 3.0)
    keys.says("router3", 3, halt="mute")
    door.say(TAKING, {"heard": "router1"}, stay=True)
    answer = pressed()
    assert (row(answer, "router1").end, row(answer, "router2").end) == (End.HALTED, End.HALTED)
    assert 0.8 < row(answer, "router1").at_s < 2.8, "a host that hangs has kept it waiting"
    assert not row(answer, "router3").stopped


def test_p6_whom_the_watch_stops_we_need_not_reach(
    keys: Keys, door: Door, pressed: Callable[..., StopOutcome]
) -> None:
    keys.says("router1", 1, halt="mute")
    door.say(TAKING, *map(climbed, HOSTS), {"over": True})
    began = time.monotonic()
    answer = pressed()
    assert row(answer, "router1").end is End.HALTED
    assert time.monotonic() - began < 8, "our own way to it was waited for"


def test_p6_a_watch_of_another_inventory_is_not_believed(
    keys: Keys, door: Door, pressed: Callable[..., StopOutcome]
) -> None:
    """It stops what it knows; whether these are the hosts that are meant now, nobody knows."""
    keys.says("router1", 1, halt=ACTIVE)
    door.say({**TAKING, "changed": True}, *map(climbed, HOSTS), {"over": True})
    answer = pressed()
    assert row(answer, "router1").end is End.DEAD
    assert all(keys.told(host)[0] == "halt" for host in HOSTS)
    assert any("has changed" in text for text in answer.trouble)


@pytest.mark.parametrize("broken", ["{hosts: [", None], ids=["broken", "gone"])
def test_p6_an_inventory_that_can_t_be_read_any_more_is_stopped_by_whom_the_watch_knows(
    keys: Keys, door: Door, pressed: Callable[..., StopOutcome], broken: str | None
) -> None:
    if broken is None:
        keys.inventory.unlink()
    else:
        keys.inventory.write_text(broken)
    ends = climbed("router1"), climbed("router2"), climbed("router3", "NOT SHOWN")
    door.say({**TAKING, "changed": True}, 0.6, *ends, {"over": True})
    answer = pressed()
    assert [one.end.value for one in answer.rows] == ["HALTED", "HALTED", "NOT SHOWN"]
    error = conclude(answer, "x")
    assert error is not None, "nobody saw the silence"
    assert "NOTHING WAS STOPPED" not in error.told() + error.means


def test_p6_without_an_inventory_and_without_a_watch_nothing_is_claimed(
    keys: Keys, door: Door, pressed: Callable[..., StopOutcome]
) -> None:
    keys.inventory.write_text("{hosts: [")
    door.say()
    with pytest.raises(InputError, match="can't be read"):
        pressed()


# --- where it is looked for -----------------------------------------------------------------------


def test_p6_a_watch_that_is_older_than_the_first_login_is_found(keys: Keys, runtime: Path) -> None:
    """Its socket lies in the common folder: this user had no runtime folder when it began."""
    door = Door(keys, place=1)
    assert runtime.exists()
    Path(runtime_dir.folders()[0]).parent.mkdir(parents=True)
    assert runtime_dir.folder() == runtime_dir.folders()[0]
    door.say(TAKING)
    warm, trouble = ask(str(keys.inventory), {"stop": []})
    assert isinstance(warm, WatchClient)
    assert not trouble
    warm.close()
    door.close()


def test_p6_a_file_that_was_replaced_as_editors_do_has_the_same_watch(
    keys: Keys, door: Door
) -> None:
    fresh = keys.folder / "fleet.new"
    shutil.copy(keys.inventory, fresh)
    fresh.replace(keys.inventory)
    door.say(TAKING)
    for way in (keys.inventory, keys.folder / "link"):
        if not way.exists():
            way.symlink_to(keys.inventory)
        assert str(door.path) in runtime_dir.candidates(str(way), ".sock")
    warm, _ = ask(str(keys.inventory), {"stop": []})
    assert warm is not None
    warm.close()


def test_two_inventories_have_two_watches(keys: Keys, runtime: Path) -> None:
    assert runtime.exists()
    one, two = (runtime_dir.stem(str(keys.folder / name)) for name in ("a.yaml", "b.yaml"))
    assert one != two


@pytest.mark.parametrize("mode", [0o620, 0o602])
def test_p6_a_socket_that_somebody_else_may_write_to_is_not_asked(
    keys: Keys, door: Door, pressed: Callable[..., StopOutcome], mode: int
) -> None:
    door.path.chmod(mode)
    door.say(TAKING, *map(climbed, HOSTS), {"over": True})
    answer = pressed()
    assert not door.asked
    assert all(keys.told(host) == ["halt"] for host in HOSTS)
    assert any("not this user's alone" in text for text in answer.trouble)


@pytest.mark.parametrize("what", ["file", "folder", "nobody listens", "a file as the folder"])
def test_p6_what_is_no_socket_is_passed_by(
    keys: Keys, runtime: Path, pressed: Callable[..., StopOutcome], what: str
) -> None:
    assert runtime.exists()
    path = Path(runtime_dir.candidates(str(keys.inventory), ".sock")[1])
    if what == "a file as the folder":
        path.parent.write_text("")
    else:
        door = Door(keys)
        door.close()
        if what != "nobody listens":
            path.unlink()
            path.mkdir() if what == "folder" else path.touch()
    answer = pressed()
    assert all(one.end is End.HALTED for one in answer.rows)


# --- the lease of whom nobody reaches -------------------------------------------------------------


def unreachable(keys: Keys) -> None:
    (keys.folder / "says" / "192.0.2.1").unlink()  # the client ends at once
    keys.declare(lease_s=20.0)


def renewals(wall: float, *, taken: bool = False) -> dict[str, object]:
    return {"router1": {"wall": wall, "lease_s": 20.0, "taken": taken}}


def test_p6_the_end_of_a_lease_is_named_by_what_the_watch_says_that_was_told(
    keys: Keys, door: Door, pressed: Callable[..., StopOutcome]
) -> None:
    unreachable(keys)
    wall = time.time() - 3
    door.say({"taking": [], "changed": False, "renewals": renewals(wall)}, {"over": True})
    assert row(pressed("router1"), "router1").lease_end == wall + 20


@pytest.mark.parametrize(
    ("said", "words"),
    [
        ([], "may go on renewing"),
        ([b"nonsense\n"], "may go on renewing"),
        ([{**TAKING, "renewals": renewals(5.0, taken=True)}, {"over": True}], "taken its renewals"),
    ],
    ids=["hung up", "another version", "another watch"],
)
def test_p6_while_somebody_may_go_on_renewing_no_instant_is_named(
    keys: Keys, door: Door, pressed: Callable[..., StopOutcome], said: list[object], words: str
) -> None:
    unreachable(keys)
    door.say(*said)
    one = row(pressed("router1"), "router1")
    assert one.lease_end is None
    assert words in one.rests_on


@pytest.mark.parametrize(
    "odd", [float("inf"), float("nan"), 1e12, 1e300, 10**400, -1, "soon", None]
)
def test_p6_a_renewal_that_can_t_be_one_is_the_worst_case(
    keys: Keys, door: Door, pressed: Callable[..., StopOutcome], odd: object
) -> None:
    unreachable(keys)
    said = {"router1": {"wall": odd, "lease_s": 20.0, "taken": False}}
    door.say({"taking": [], "changed": False, "renewals": said}, {"over": True})
    one = row(pressed("router1"), "router1")
    assert one.lease_end is not None
    assert time.time() < one.lease_end <= time.time() + 20
    assert conclude(StopOutcome(StopRequest("a", "b", "c", 0.0), (one,), ""), "x") is not None


def test_p6_a_watch_that_hangs_has_written_down_its_renewals(
    keys: Keys, door: Door, pressed: Callable[..., StopOutcome]
) -> None:
    unreachable(keys)
    wall = time.time() - 4
    boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    record = door.path.with_suffix(".json")
    record.write_text(json.dumps({"boot": boot, "renewals": renewals(wall)}))
    record.chmod(0o600)
    assert row(pressed("router1"), "router1").lease_end == wall + 20
    record.write_text(json.dumps({"boot": "another", "renewals": renewals(wall)}))
    worst = row(pressed("router1"), "router1").lease_end
    assert worst is not None
    assert worst > time.time() + 15


def test_p6_whoever_the_witness_saw_after_its_lease_s_end_is_renewed_by_somebody(
    keys: Keys, door: Door, pressed: Callable[..., StopOutcome]
) -> None:
    unreachable(keys)
    code = "import json, time; t = time.time(); "
    code += "print(json.dumps({'taken': t, 'last_child': {'router1': t - 0.01}}))"
    keys.witness(["python3", "-c", code], lease_s=20.0)
    said = renewals(time.time() - 60)
    door.say({"taking": [], "changed": False, "renewals": said}, {"over": True})
    one = row(pressed("router1"), "router1")
    assert (one.lease_end, one.silent) == (None, False)
    assert "another watch" in one.rests_on
