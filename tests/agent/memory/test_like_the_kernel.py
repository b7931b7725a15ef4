"""The files in memory do what the kernel does: the same calls give the same results and errors."""

from __future__ import annotations

import contextlib
import errno
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from deploytool.agent.linux.files import LinuxFiles
from deploytool.simulation.memory.agent import MemoryAgent
from deploytool.simulation.memory.computer import Computer
from deploytool.simulation.memory.host import settings as described
from deploytool.simulation.memory.service import Plain

if TYPE_CHECKING:
    from deploytool.agent.port import Files, Folder

NAMES = ("a", "b", "c")
ODD = ("", ".", "..", "a/b", "/", "a\0b")
PATHS = ("a", "a/b", "b", "a/b/c")
"""Folders, from the root that was opened, in which a call happens."""

name = st.sampled_from(NAMES)
any_name = st.one_of(name, name, name, name, st.sampled_from(ODD))
size = st.sampled_from((0, 1, 7, 5000))

calls = st.one_of(
    st.tuples(st.just("names")),
    st.tuples(st.just("entry"), any_name),
    st.tuples(st.just("read"), any_name, st.sampled_from((0, 6, 7, 8192))),
    st.tuples(st.just("target"), any_name),
    st.tuples(st.just("write"), any_name, size, st.sampled_from((0o600, 0o644, 0o444))),
    st.tuples(st.just("make_folder"), any_name, st.sampled_from((0o755, 0o700))),
    st.tuples(st.just("make_link"), any_name, st.sampled_from(("a", "b", "nowhere", "/", ".."))),
    st.tuples(st.just("rename"), any_name, any_name),
    st.tuples(st.just("rename_new"), any_name, any_name),
    st.tuples(st.just("set_mode"), any_name, st.sampled_from((0o400, 0o755))),
    st.tuples(st.just("remove"), any_name),
    st.tuples(st.just("remove_tree"), any_name),
    st.tuples(st.just("sync")),
    st.tuples(st.just("sync_file"), any_name),
    st.tuples(st.just("digest"), any_name),
    st.tuples(st.just("digest_disk"), any_name),
    st.tuples(st.just("lock"), any_name),
    st.tuples(st.just("opens"), any_name),
    st.tuples(st.just("whole"), st.sampled_from(("inode", "read", "digest", "names", "exists"))),
)
steps = st.lists(st.tuples(st.sampled_from(("", "", *PATHS)), calls), min_size=1, max_size=25)


class Side:
    """One of the two file systems, and what it gives back without what must differ."""

    def __init__(self, files: Files, root: str) -> None:
        self.files, self.root = files, root
        self.open: dict[str, Folder] = {"": files.open_root(root)}

    def outcome(self, where: str, call: tuple[Any, ...]) -> object:
        try:
            return self._plain(self._do(where, call))
        except OSError as error:
            return errno.errorcode[error.errno or 0], type(error).__name__

    def _folder(self, where: str) -> Folder:
        """Once opened it stays open, whatever becomes of its name."""
        if where not in self.open:
            above, _, last = where.rpartition("/")
            self.open[where] = self._folder(above).folder(last)
        return self.open[where]

    def _do(self, where: str, call: tuple[Any, ...]) -> object:
        what, *given = call
        if what == "whole":
            path = f"{self.root}/{where}"
            return getattr(self.files, given[0])(path, *([100] if given[0] == "read" else []))
        folder = self._folder(where)
        if what == "write":
            return self._write(folder, *given)
        if what == "lock":
            with folder.lock(given[0], 0.0):
                return "held"
        if what == "opens":
            folder.folder(given[0]).close()
            return "opened"
        return getattr(folder, what)(*given)

    @staticmethod
    def _write(folder: Folder, name: str, size: int, mode: int) -> str:
        sink = folder.create(name, mode)
        try:
            sink.write(b"x" * (size // 2))
            sink.write(b"y" * (size - size // 2))
            sink.sync()
        finally:
            sink.close()
        return "written"

    def _plain(self, found: Any) -> object:
        if hasattr(found, "kind"):
            inode = found.inode
            size = None if found.kind == "folder" else inode.size
            mode = None if found.kind == "link" else inode.rights.mode
            return found.kind, size, mode
        if hasattr(found, "device"):
            return "inode"  # a folder's size is the file system's own business
        return found.sha if hasattr(found, "direct") else found


@contextlib.contextmanager
def sides(path: Path) -> Iterator[tuple[Side, Side]]:
    real = path / "real"
    real.mkdir()
    computer = Computer()
    computer.make_folders("/srv/real")
    agent = MemoryAgent(Plain(computer, described(supervisor="process")))
    kernel = Side(LinuxFiles(), str(real))
    try:
        yield kernel, Side(agent.files, "/srv/real")
    finally:
        for folder in kernel.open.values():
            folder.close()


@given(steps)
@settings(
    max_examples=400, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_the_same_calls_give_the_same(
    tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[str, tuple[Any, ...]]]
) -> None:
    with sides(tmp_path_factory.mktemp("kernel")) as (kernel, memory):
        for number, (where, call) in enumerate(steps):
            expected, found = kernel.outcome(where, call), memory.outcome(where, call)
            assert found == expected, (number, where, call, steps[:number])


@pytest.mark.parametrize("kind", ["file", "folder", "link", "dangling"])
@pytest.mark.parametrize("over", ["none", "file", "folder", "full folder", "link"])
@pytest.mark.parametrize("how", ["rename", "rename_new"])
def test_every_rename(tmp_path: Path, kind: str, over: str, how: str) -> None:
    def make(side: Side, what: str, name: str) -> None:
        folder = side.open[""]
        if what == "file":
            folder.create(name, 0o644).close()
        elif what in {"folder", "full folder"}:
            folder.make_folder(name, 0o755)
            if what != "folder":
                folder.folder(name).make_folder("within", 0o755)
        elif what != "none":
            folder.make_link(name, "nowhere" if what == "dangling" else name)

    with sides(tmp_path) as (kernel, memory):
        results = []
        for side in (kernel, memory):
            make(side, kind, "a")
            make(side, over, "b")
            done = side.outcome("", (how, "a", "b"))
            names = side.outcome("", ("names",))
            results.append((done, names, [side.outcome("", ("entry", n)) for n in NAMES]))
        assert results[0] == results[1]


def test_a_lock_is_held_by_one(tmp_path: Path) -> None:
    """Two holders: the second waits for as long as it may, and has it once the first lets go."""

    def held_twice(first: Folder, second: Folder) -> list[str]:
        seen: list[str] = []
        with first.lock("mutex", 0.0):
            for wait_s in (0.0, 0.05):
                try:
                    with second.lock("mutex", wait_s):
                        seen.append("both")
                except TimeoutError as error:
                    seen.append(errno.errorcode[error.errno or 0])
            first.rename("mutex", "other")
            first.create("mutex", 0o600).close()
            with second.lock("mutex", 0.0):
                seen.append("the name leads to another file, with a lock of its own")
        with second.lock("other", 0.0), contextlib.suppress(KeyError):
            raise KeyError  # it is let go when the block ends by an exception too
        with first.lock("other", 0.0):
            seen.append("free again")
        return seen

    (tmp_path / "real").mkdir()
    (tmp_path / "real" / "mutex").touch()
    real = [LinuxFiles().open_root(str(tmp_path / "real")) for _ in range(2)]
    computer = Computer()
    computer.put("/srv/real/mutex", b"")
    service = Plain(computer, described(supervisor="process"))
    memory = [MemoryAgent(service).files.open_root("/srv/real") for _ in range(2)]
    expected = held_twice(real[0], real[1])
    assert expected[:2] == ["ETIMEDOUT", "ETIMEDOUT"]
    assert held_twice(memory[0], memory[1]) == expected


def test_a_lock_ends_with_its_holder() -> None:
    """As the kernel closes what a killed process held."""
    computer = Computer()
    computer.put("/srv/mutex", b"")
    service = Plain(computer, described(supervisor="process"))
    first, second = MemoryAgent(service), MemoryAgent(service)
    first.files.open_root("/srv").lock("mutex", 0.0).__enter__()
    with pytest.raises(TimeoutError), second.files.open_root("/srv").lock("mutex", 0.0):
        pass
    first.run.end()
    with second.files.open_root("/srv").lock("mutex", 0.0):
        pass


def test_a_full_disk_takes_what_fits() -> None:
    computer = Computer()
    computer.make_folders("/srv")
    computer.disk.room = 2 * 4096 + 100
    folder = MemoryAgent(Plain(computer, described(supervisor="process"))).files.open_root("/srv")
    sink = folder.create("a", 0o644)
    with pytest.raises(OSError, match="No space left") as raised:
        sink.write(b"x" * 10000)
    assert raised.value.errno == errno.ENOSPC
    entry = folder.entry("a")
    assert entry is not None
    assert entry.inode.size == 8192
    with pytest.raises(OSError, match="No space left"):
        folder.make_folder("b", 0o755)
    folder.remove("a")
    assert folder.free() == 100, "an open file keeps its blocks"
    sink.close()
    assert folder.free() == 2 * 4096 + 100


def test_a_read_only_disk_changes_nothing() -> None:
    computer = Computer()
    computer.put("/srv/a", b"x")
    computer.disk.read_only = True
    folder = MemoryAgent(Plain(computer, described(supervisor="process"))).files.open_root("/srv")
    changes: list[Callable[[], object]] = [
        lambda: folder.create("b", 0o644),
        lambda: folder.make_folder("b", 0o755),
        lambda: folder.make_link("b", "a"),
        lambda: folder.rename("a", "b"),
        lambda: folder.rename_new("a", "b"),
        lambda: folder.set_mode("a", 0o600),
        lambda: folder.remove("a"),
        lambda: folder.remove_tree("a"),
    ]
    for change in changes:
        with pytest.raises(OSError, match="Read-only") as raised:
            change()
        assert raised.value.errno == errno.EROFS
    assert folder.names() == ["a"]
    assert folder.read("a", 10) == b"x"


def test_errors_come_where_they_are_asked_for() -> None:
    computer = Computer()
    computer.put("/srv/a", b"x")
    folder = MemoryAgent(Plain(computer, described(supervisor="process"))).files.open_root("/srv")
    computer.disk.failing = {("read", "a"): errno.EIO, ("sync", "*"): errno.EIO}
    with pytest.raises(OSError, match="Input/output"):
        folder.read("a", 10)
    with pytest.raises(OSError, match="Input/output"):
        folder.sync()
    assert folder.digest("a") is not None


def test_threads_do_not_share_a_turn() -> None:
    """A run belongs to whoever made it: nothing here is a global of the process."""
    done: list[int] = []

    def work(number: int) -> None:
        computer = Computer(number=number)
        computer.put("/srv/a", str(number).encode())
        folder = MemoryAgent(Plain(computer, described(supervisor="process"))).files.open_root(
            "/srv"
        )
        done.append(int(folder.read("a", 10)) - number)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(1, 5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert done == [0, 0, 0, 0]
