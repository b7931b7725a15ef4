"""What a loss of power leaves of a disk: what was synced, and any of the rest, each whole."""

from __future__ import annotations

import contextlib
import errno
from collections import defaultdict
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deploytool.simulation.memory.disk import BLOCK, Disk, Fate, Node

NAMES = ("a", "b", "c")
FOLDERS = ("", "d", "e")

steps = st.lists(
    st.one_of(
        st.tuples(st.just("write"), st.sampled_from(FOLDERS), st.sampled_from(NAMES)),
        st.tuples(st.just("append"), st.sampled_from(FOLDERS), st.sampled_from(NAMES)),
        st.tuples(st.just("fsync"), st.sampled_from(FOLDERS), st.sampled_from(NAMES)),
        st.tuples(st.just("rename"), st.sampled_from(FOLDERS), st.permutations(NAMES)),
        st.tuples(st.just("remove"), st.sampled_from(FOLDERS), st.sampled_from(NAMES)),
        st.tuples(st.just("mkdir"), st.just(""), st.sampled_from(FOLDERS[1:])),
        st.tuples(st.just("rmdir"), st.just(""), st.sampled_from(FOLDERS[1:])),
        st.tuples(st.just("move"), st.just(""), st.sampled_from((("d", "e"), ("e", "d")))),
        st.tuples(st.just("sync"), st.sampled_from(FOLDERS), st.just("")),
    ),
    max_size=30,
)
fates = st.builds(Fate, st.integers(0, 1 << 20), st.sampled_from((0.0, 0.5, 0.5, 1.0)))


class Watched:
    """A disk, and what may be found on it after a loss of power, written down independently."""

    def __init__(self) -> None:
        self.time = 0
        self.disk = Disk(self._tick)
        self.may_be: dict[tuple[int, str], set[Node | None]] = defaultdict(lambda: {None})
        self.synced_bytes: dict[Node, bytes] = defaultdict(bytes)
        self.settled: set[Node] = set()
        """Inodes whose name was on the disk, and that were not removed since."""
        self.nodes: set[Node] = set()

    def _tick(self) -> int:
        self.time += 1
        return self.time

    def play(self, steps: list[tuple[str, str, Any]]) -> None:
        for number, (what, where, name) in enumerate(steps):
            with contextlib.suppress(OSError):
                folder = self.disk.walk(where)
                before = dict(folder.entries)
                getattr(self, f"_{what}")(folder, name, number)
                self._note(folder, before)

    def _write(self, folder: Node, name: str, number: int) -> None:
        node = self.disk.make(folder, name, "file", 0o644)
        self.disk.write(node, f"file {number} ".encode() * 1000)

    def _append(self, folder: Node, name: str, _number: int) -> None:
        self.disk.write(self.disk.find(folder, name), b"more")

    def _fsync(self, folder: Node, name: str, _number: int) -> None:
        node = self.disk.find(folder, name)
        self.disk.sync(node)
        self.synced_bytes[node] = node.content

    def _rename(self, folder: Node, names: tuple[str, ...], _number: int) -> None:
        self.disk.rename(folder, names[0], names[1])

    _move = _rename

    def _remove(self, folder: Node, name: str, _number: int) -> None:
        self.disk.remove(folder, name)

    _rmdir = _remove

    def _mkdir(self, folder: Node, name: str, _number: int) -> None:
        self.disk.make(folder, name, "folder", 0o755)

    def _sync(self, folder: Node, _name: str, _number: int) -> None:
        self.disk.sync(folder)
        self.settled |= set(folder.entries.values())
        for place in self.may_be:
            if place[0] == folder.number:
                self.may_be[place] = {folder.entries.get(place[1])}

    def _note(self, folder: Node, before: dict[str, Node]) -> None:
        for name in {*before, *folder.entries}:
            self.may_be[folder.number, name].add(folder.entries.get(name))
        gone = set(before.values()) - set(folder.entries.values())
        self.settled -= gone
        self.nodes |= set(folder.entries.values())


def walk(disk: Disk) -> Iterator[tuple[Node, str, Node]]:
    left = [disk.root]
    while left:
        folder = left.pop()
        for name, node in folder.entries.items():
            yield folder, name, node
            left.append(node)


@given(steps, fates)
@settings(max_examples=600, deadline=None)
def test_what_power_loss_leaves(steps: list[tuple[str, str, Any]], fate: Fate) -> None:
    watched = Watched()
    watched.play(steps)
    disk = watched.disk
    cached = {node: node.content for node in watched.nodes}
    disk.lose_power(fate)
    found = list(walk(disk))
    for folder, name, node in found:
        assert node in watched.may_be[folder.number, name], f"{name} never stood for that"
    names = [node for _, _, node in found]
    assert len(names) == len(set(names)), "one inode has two names"
    for (number, name), nodes in watched.may_be.items():
        for above in [disk.root, *names]:
            if above.number == number and None not in nodes:
                assert above.entries.get(name) in nodes, f"{name} was synced and is gone"
    reachable = set(names)
    for node in watched.settled:
        lost_with = node.above is not disk.root and node.above not in reachable
        assert node in reachable or lost_with, node
    for node in reachable:
        if node.kind == "file":
            _check_bytes(node, watched.synced_bytes[node], cached[node])


def _check_bytes(node: Node, synced: bytes, written: bytes) -> None:
    assert node.content.startswith(synced), "synced bytes are gone"
    assert len(node.content) <= len(written)
    for at, byte in enumerate(node.content[len(synced) :], len(synced)):
        assert byte in {written[at], 0}


@given(steps)
@settings(max_examples=200, deadline=None)
def test_a_kind_fate_keeps_all(steps: list[tuple[str, str, Any]]) -> None:
    watched = Watched()
    watched.play(steps)
    before = {(f.number, name, n, n.content) for f, name, n in walk(watched.disk)}
    watched.disk.lose_power(Fate(keeps=1.0))
    assert {(f.number, name, n, n.content) for f, name, n in walk(watched.disk)} == before


@given(steps, fates, fates)
@settings(max_examples=200, deadline=None)
def test_it_loses_nothing_twice(steps: list[tuple[str, str, Any]], one: Fate, two: Fate) -> None:
    watched = Watched()
    watched.play(steps)
    watched.disk.lose_power(one)
    before = {(f.number, name, n, n.content) for f, name, n in walk(watched.disk)}
    room = watched.disk.room
    watched.disk.lose_power(two)
    assert {(f.number, name, n, n.content) for f, name, n in walk(watched.disk)} == before
    assert watched.disk.room == room


@given(steps, fates)
@settings(max_examples=200, deadline=None)
def test_room_is_what_the_files_leave(steps: list[tuple[str, str, Any]], fate: Fate) -> None:
    watched = Watched()
    watched.play(steps)

    def used() -> int:
        sizes = [n.content for _, _, n in walk(watched.disk) if n.kind == "file"]
        folders = 1 + sum(n.kind == "folder" for _, _, n in walk(watched.disk))
        return folders * BLOCK + sum(-(-len(content) // BLOCK) * BLOCK for content in sizes)

    total = Disk(lambda: 0).room + BLOCK
    assert watched.disk.room == total - used()
    watched.disk.lose_power(fate)
    assert watched.disk.room == total - used()


def outcomes(
    prepare: list[tuple[str, str, Any]], then: list[tuple[str, str, Any]], read: str
) -> set[str]:
    """What a file is found to be, over many fates: ``gone``, ``old``, ``new``, or ``torn``."""
    seen: set[str] = set()
    for seed in range(200):
        watched = Watched()
        watched.play([*prepare, *then])
        with contextlib.suppress(OSError):
            new = watched.disk.walk(read).content
        watched.disk.lose_power(Fate(seed))
        node = watched.disk.root.entries.get(read)
        if node is None:
            seen.add("gone")
        elif node.content.startswith(b"file 0 ") and len(node.content) == 7000:
            seen.add("old")
        else:
            seen.add("new" if node.content == new else "torn")
    return seen


OLD: list[tuple[str, str, Any]] = [
    ("write", "", "a"),
    ("fsync", "", "a"),
    ("sync", "", ""),
]
WRITE: tuple[str, str, Any] = ("write", "", "b")
FSYNC: tuple[str, str, Any] = ("fsync", "", "b")
RENAME: tuple[str, str, Any] = ("rename", "", ("b", "a", "c"))
SYNC: tuple[str, str, Any] = ("sync", "", "")


@pytest.mark.parametrize(
    ("then", "found"),
    [
        ([WRITE, FSYNC, RENAME, SYNC], {"new"}),
        ([WRITE, FSYNC, RENAME], {"old", "new"}),
        ([WRITE, RENAME, SYNC], {"new", "torn"}),
        ([WRITE, RENAME], {"old", "new", "torn"}),
        ([WRITE, FSYNC], {"old"}),
        ([("remove", "", "a")], {"old", "gone"}),
        ([("remove", "", "a"), SYNC], {"gone"}),
    ],
    ids=["right", "names not synced", "bytes not synced", "neither", "draft", "removed", "gone"],
)
def test_each_way_to_replace_a_file(then: list[tuple[str, str, Any]], found: set[str]) -> None:
    """What a missing sync costs is found, and nothing is where none is missing."""
    assert outcomes(OLD, then, "a") == found


def test_a_folder_that_was_moved_may_lack_what_was_not_synced_in_it() -> None:
    lacking = 0
    for seed in range(100):
        watched = Watched()
        watched.play(
            [
                ("mkdir", "", "d"),
                ("write", "d", "a"),
                ("fsync", "d", "a"),
                ("move", "", ("d", "e")),
                ("sync", "", ""),
            ]
        )
        watched.disk.lose_power(Fate(seed))
        lacking += "a" not in watched.disk.root.entries["e"].entries
    assert 0 < lacking < 100


def test_what_a_failed_sync_dropped_stays_away() -> None:
    watched = Watched()
    disk = watched.disk
    watched.play(OLD)
    node = disk.walk("a")
    old = node.content
    disk.write(node, b"more")
    disk.failing = {("sync", "*"): errno.EIO}
    with pytest.raises(OSError, match="Input/output"):
        disk.sync(node)
    disk.failing = {}
    disk.sync(node)
    assert node.content == old + b"more", "programs go on seeing it"
    assert node.on_disk == old, "a reader past the page cache does not"
    disk.lose_power(Fate(keeps=1.0))
    assert node.content == old


def test_rot_shows_past_the_page_cache_and_after_a_boot() -> None:
    watched = Watched()
    watched.play(OLD)
    node = watched.disk.walk("a")
    good = node.content
    node.rot(b"rotten")
    assert (node.content, node.on_disk) == (good, b"rotten")
    watched.disk.lose_power(Fate(keeps=1.0))
    assert node.content == b"rotten"
