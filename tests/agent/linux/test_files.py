"""Files and folders against a real file system: what may be put in the way, and what may fail."""

from __future__ import annotations

import errno
import hashlib
import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from deploytool.agent.linux import files, hashing
from deploytool.agent.linux.files import LinuxFiles, LinuxFolder

from .conftest import as_root

SECRET = "what root alone may read"
BYTES = b"artifact" * 200_001
"""Longer than one reading, and not a multiple of a disk's block."""


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[LinuxFolder]:
    opened = LinuxFiles().open_root(str(tmp_path))
    yield opened
    opened.close()


@pytest.fixture
def secret(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("elsewhere") / "secret"
    path.write_text(SECRET)
    return path


BAD_NAMES = ["", ".", "..", "a/b", "/etc/passwd", "../x", "a\0b"]


@pytest.mark.parametrize("name", BAD_NAMES)
def test_a_name_that_leads_elsewhere_is_refused_by_every_method(
    folder: LinuxFolder, name: str
) -> None:
    (Path(folder.path) / "x").write_text("x")
    for call in (
        lambda: folder.folder(name),
        lambda: folder.entry(name),
        lambda: folder.read(name, 10),
        lambda: folder.target(name),
        lambda: folder.create(name, 0o644),
        lambda: folder.make_folder(name, 0o755),
        lambda: folder.make_link(name, "x"),
        lambda: folder.rename(name, "y"),
        lambda: folder.rename("x", name),
        lambda: folder.rename_new(name, "y"),
        lambda: folder.rename_new("x", name),
        lambda: folder.set_mode(name, 0o644),
        lambda: folder.remove(name),
        lambda: folder.remove_tree(name),
        lambda: folder.sync_file(name),
        lambda: folder.lock(name, 0.0),
        lambda: folder.digest(name),
        lambda: folder.digest_disk(name),
    ):
        with pytest.raises(OSError) as raised:  # noqa: PT011 the number is checked
            call()
        assert raised.value.errno == errno.EINVAL
    assert os.listdir(folder.path) == ["x"]


def test_no_link_below_the_root_is_followed(folder: LinuxFolder, secret: Path) -> None:
    path = Path(folder.path)
    (path / "link").symlink_to(secret)
    (path / "folder").symlink_to(secret.parent)
    for call in (
        lambda: folder.read("link", 100),
        lambda: folder.folder("folder"),
        lambda: folder.set_mode("link", 0o777),
        lambda: folder.sync_file("link"),
        lambda: folder.lock("link", 0.0),
        lambda: folder.create("link", 0o644),
    ):
        with pytest.raises(OSError):  # noqa: PT011 ELOOP, ENOTDIR or EEXIST
            call()
    assert folder.digest("link") is None
    assert folder.digest_disk("link").sha is None
    folder.remove_tree("folder")
    folder.remove("link")
    assert secret.read_text() == SECRET


def test_removing_a_tree_stays_in_it(folder: LinuxFolder, secret: Path) -> None:
    tree = Path(folder.path) / "tree"
    (tree / "deep" / "deeper").mkdir(parents=True)
    (tree / "deep" / "out").symlink_to(secret.parent)
    (tree / "deep" / b"\xff\xfe".decode("utf-8", "surrogateescape")).write_text("x")
    os.mkfifo(tree / "fifo")
    (tree / "deep").chmod(0o555)
    folder.remove_tree("tree")
    folder.remove_tree("tree")
    assert folder.names() == []
    assert secret.read_text() == SECRET


def test_a_tree_without_end_is_not_climbed_down(folder: LinuxFolder) -> None:
    path = Path(folder.path)
    for _ in range(files.DEPTH_AT_MOST + 2):
        path = path / "d"
    path.mkdir(parents=True)
    with pytest.raises(OSError) as raised:  # noqa: PT011 the number is checked
        folder.remove_tree("d")
    assert raised.value.errno == errno.ELOOP


def test_special_files_are_neither_waited_for_nor_opened(
    folder: LinuxFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    os.mkfifo(Path(folder.path) / "fifo")
    listening = socket.socket(socket.AF_UNIX)
    with monkeypatch.context() as within:  # the path is too long for a socket's address
        within.chdir(folder.path)
        listening.bind("socket")
    for name in ("fifo", "socket"):
        with pytest.raises(OSError):  # noqa: PT011 whichever number
            folder.read(name, 10)
        assert folder.digest(name) is None
        assert folder.digest_disk(name).sha is None
        entry = folder.entry(name)
        assert entry is not None
        assert entry.kind == "other"
    listening.close()
    for path in ("/dev/zero", "/dev/tty", "/", folder.path):
        assert LinuxFiles().digest(path) is None
    with pytest.raises(OSError):  # noqa: PT011 EINVAL
        LinuxFiles().read("/dev/zero", 10)


@pytest.mark.parametrize("umask", [0o000, 0o077, 0o777])
def test_modes_are_those_asked_for_whatever_the_umask(folder: LinuxFolder, umask: int) -> None:
    before = os.umask(umask)
    try:
        sink = folder.create("file", 0o555)
        sink.write(BYTES)
        sink.sync()
        sink.close()
        folder.make_folder("folder", 0o755)
    finally:
        os.umask(before)
    modes = {name: (Path(folder.path) / name).stat().st_mode & 0o7777 for name in folder.names()}
    assert modes == {"file": 0o555, "folder": 0o755}
    assert (Path(folder.path) / "file").read_bytes() == BYTES
    folder.set_mode("file", 0o600)
    assert (Path(folder.path) / "file").stat().st_mode & 0o7777 == 0o600


def test_reading_has_a_bound(folder: LinuxFolder) -> None:
    (Path(folder.path) / "file").write_bytes(b"x" * 100)
    assert folder.read("file", 100) == b"x" * 100
    with pytest.raises(OSError) as raised:  # noqa: PT011 the number is checked
        folder.read("file", 99)
    assert raised.value.errno == errno.EFBIG
    assert len(LinuxFiles().read("/proc/self/status", 65536)) > 100


def test_a_file_that_does_not_end_has_no_digest(
    folder: LinuxFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    (Path(folder.path) / "file").write_bytes(b"x" * 100)
    monkeypatch.setattr(hashing, "BYTES_AT_MOST", 99)
    assert folder.digest("file") is None
    assert folder.digest_disk("file").sha is None


@pytest.mark.parametrize("size", [0, 1, 4096, 1024 * 1024, len(BYTES)])
@pytest.mark.parametrize("where", ["/var/tmp", "/dev/shm"])
def test_digests_are_those_of_the_bytes(size: int, where: str) -> None:
    made = subprocess.run(["mktemp", "-d", "-p", where], capture_output=True, text=True, check=True)
    path = Path(made.stdout.strip())
    opened = LinuxFiles().open_root(str(path))
    try:
        (path / "file").write_bytes(BYTES[:size])
        expected = hashlib.sha256(BYTES[:size]).hexdigest()
        assert opened.digest("file") == expected
        assert opened.digest_disk("file").sha == expected
    finally:
        opened.remove_tree("file")
        opened.close()
        path.rmdir()


def test_where_the_disk_takes_no_direct_reading_that_is_said(
    folder: LinuxFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    (Path(folder.path) / "file").write_bytes(BYTES)

    def refuses(_descriptor: int) -> str:
        raise OSError(errno.EINVAL, "no direct reading")

    monkeypatch.setattr(hashing, "_digest_direct", refuses)
    found = folder.digest_disk("file")
    assert (found.sha, found.direct) == (hashlib.sha256(BYTES).hexdigest(), False)

    def breaks(_descriptor: int) -> str:
        raise OSError(errno.EIO, "the disk is broken")

    monkeypatch.setattr(hashing, "_digest_direct", breaks)
    assert folder.digest_disk("file").sha is None


def test_renaming_replaces_or_does_not(folder: LinuxFolder) -> None:
    path = Path(folder.path)
    for name in ("a", "b"):
        (path / name).write_text(name)
        (path / f"{name}-folder").mkdir()
        (path / f"{name}-folder" / "in").write_text(name)
    for one, other in (("a", "b"), ("a-folder", "b-folder"), ("a", "b-folder")):
        with pytest.raises(FileExistsError):
            folder.rename_new(one, other)
    folder.rename_new("a", "new")
    folder.rename_new("a-folder", "new-folder")
    folder.rename("new", "b")
    assert (path / "b").read_text() == "a"
    assert folder.names() == ["b", "b-folder", "new-folder"]


@pytest.mark.parametrize("number", [errno.ENOSYS, errno.EINVAL])
def test_an_old_kernel_renames_files_without_replacing_too(
    folder: LinuxFolder, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    monkeypatch.setattr(files, "_rename_no_replace", lambda *_: number)
    path = Path(folder.path)
    (path / "a").write_text("a")
    (path / "b").write_text("b")
    (path / "link").symlink_to("nowhere")
    with pytest.raises(FileExistsError):
        folder.rename_new("a", "b")
    with pytest.raises(FileExistsError):
        folder.rename_new("a", "link")
    folder.rename_new("a", "c")
    folder.rename_new("link", "link2")
    assert folder.names() == ["b", "c", "link2"]
    assert (path / "c").stat().st_nlink == 1


def test_a_lock_is_held_by_one_and_goes_with_its_process(folder: LinuxFolder) -> None:
    mutex = Path(folder.path) / "mutex"
    mutex.touch()
    program = ["flock", str(mutex), "sh", "-c", "echo held; exec sleep 60"]
    with subprocess.Popen(program, stdout=subprocess.PIPE, process_group=0) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == b"held\n"
        before = len(os.listdir("/proc/self/fd"))
        for wait_s in (0.0, 0.2):
            begun = time.monotonic()
            with pytest.raises(TimeoutError):
                folder.lock("mutex", wait_s)
            assert time.monotonic() - begun >= wait_s
        assert len(os.listdir("/proc/self/fd")) == before, "a descriptor was left open"
        os.killpg(other.pid, signal.SIGKILL)
    with folder.lock("mutex", 10.0), pytest.raises(TimeoutError):
        folder.lock("mutex", 0.0)
    with folder.lock("mutex", 0.0):
        pass


def test_a_lock_without_its_file_is_an_error(folder: LinuxFolder) -> None:
    with pytest.raises(FileNotFoundError):
        folder.lock("mutex", 0.0)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 64 KiB of its own."""
    as_root()
    where = tmp_path / "disk"
    where.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", where], check=True)
    try:
        yield where
    finally:
        subprocess.run(["umount", "--lazy", where], check=True)


def test_a_full_disk_is_an_error_and_leaves_no_half_word(small_disk: Path) -> None:
    opened = LinuxFiles().open_root(str(small_disk))
    assert 0 < opened.free() <= 65536
    sink = opened.create("file", 0o644)
    with pytest.raises(OSError) as raised:  # noqa: PT011 the number is checked
        sink.write(b"x" * 100_000)
    assert raised.value.errno == errno.ENOSPC
    sink.close()
    assert opened.free() == 0
    opened.remove("file")
    opened.close()


def test_a_read_only_disk_is_an_error(small_disk: Path) -> None:
    opened = LinuxFiles().open_root(str(small_disk))
    opened.create("file", 0o644).close()
    subprocess.run(["mount", "-o", "remount,ro", small_disk], check=True)
    for call in (
        lambda: opened.create("other", 0o644),
        lambda: opened.rename("file", "other"),
        lambda: opened.remove("file"),
        lambda: opened.make_folder("folder", 0o755),
    ):
        with pytest.raises(OSError) as raised:  # noqa: PT011 the number is checked
            call()
        assert raised.value.errno == errno.EROFS
    assert opened.digest("file") == hashlib.sha256(b"").hexdigest()
    opened.close()


def test_a_limit_of_file_sizes_is_an_error_and_no_signal(folder: LinuxFolder) -> None:
    code = (
        "import resource,sys;sys.path.insert(0,sys.argv[2]);"
        "resource.setrlimit(resource.RLIMIT_FSIZE,(10,10));"
        "from deploytool.agent.linux.files import LinuxFiles;"
        "f=LinuxFiles().open_root(sys.argv[1]).create('x',0o644)\n"
        "try: f.write(b'y'*100)\n"
        "except OSError as e: print(e.errno)"
    )
    source = str(Path(files.__file__).parents[3])
    ended = subprocess.run(
        ["/usr/bin/python3", "-I", "-S", "-c", code, folder.path, source],
        capture_output=True,
        text=True,
    )
    assert ended.stdout.strip() == str(errno.EFBIG), ended


def test_only_the_root_itself_may_be_reached_through_a_link(tmp_path: Path) -> None:
    (tmp_path / "real" / "releases").mkdir(parents=True)
    (tmp_path / "link").symlink_to("real")
    opened = LinuxFiles().open_root(str(tmp_path / "link"))
    assert opened.path == str(tmp_path / "real")
    opened.folder("releases").close()
    opened.close()
    opened.close()
