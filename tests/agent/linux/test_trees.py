"""Digests over real folders: what changes them, what does not, and their bounds."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from deploytool.agent.linux import hashing, trees
from deploytool.agent.linux.trees import digest_trees, stamp_trees


@pytest.fixture
def library(tmp_path: Path) -> Path:
    folder = tmp_path / "python3"
    (folder / "json" / "__pycache__").mkdir(parents=True)
    (folder / "os.py").write_text("import sys\n")
    (folder / "json" / "__init__.py").write_text("#\n")
    (tmp_path / "site.py").write_text("#\n")
    (folder / "site.py").symlink_to(tmp_path / "site.py")
    (folder / "loop").symlink_to(folder)
    (folder / "gone").symlink_to("/nowhere")
    return folder


def lead_elsewhere(folder: Path) -> None:
    (folder / "gone").unlink()
    (folder / "gone").symlink_to("/elsewhere")


CHANGES: dict[str, Callable[[Path], object]] = {
    "altered": lambda folder: (folder / "os.py").write_text("import svs\n"),
    "added": lambda folder: (folder / "json" / "evil.py").write_text(""),
    "removed": lambda folder: (folder / "os.py").unlink(),
    "renamed": lambda folder: (folder / "os.py").rename(folder / "so.py"),
    "linked elsewhere": lead_elsewhere,
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_a_change_changes_both(library: Path, change: Callable[[Path], object]) -> None:
    before = stamp_trees([str(library)]), digest_trees([str(library)])[0]
    assert before == (stamp_trees([str(library)]), digest_trees([str(library)])[0])
    change(library)
    assert stamp_trees([str(library)]) != before[0]
    assert digest_trees([str(library)])[0] != before[1]


def test_what_a_link_leads_to_counts_and_compiled_caches_and_times_do_not(library: Path) -> None:
    before = digest_trees([str(library)])[0]
    (library / "json" / "__pycache__" / "x.pyc").write_text("x")
    (library / "os.py").touch()
    assert digest_trees([str(library)])[0] == before
    (library.parent / "site.py").write_text("import evil\n")
    assert digest_trees([str(library)])[0] != before


def test_a_file_behind_a_link_that_changes_changes_the_stamp(library: Path) -> None:
    stamp = stamp_trees([str(library)])
    (library.parent / "site.py").write_text("import evil\n")
    assert stamp_trees([str(library)]) != stamp


def test_what_is_replaced_with_the_same_size_and_time_has_another_stamp(library: Path) -> None:
    file = library / "os.py"
    before, times = stamp_trees([str(library)]), file.stat()
    file.write_text("import svs\n")
    os.utime(file, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert stamp_trees([str(library)]) != before


@pytest.fixture
def settled(library: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """It changed long ago, and whoever runs the tests is root."""
    monkeypatch.setattr(trees, "SETTLED_S", -60.0)
    monkeypatch.setattr(trees, "_ROOT", os.getuid())
    return library


def test_what_was_read_has_the_stamp_that_it_keeps(settled: Path) -> None:
    _, stamp = digest_trees([str(settled)])
    assert stamp == stamp_trees([str(settled)])


def change_now(_: Path, patch: pytest.MonkeyPatch) -> None:
    patch.setattr(trees, "SETTLED_S", 2.0)


def be_another_s(_: Path, patch: pytest.MonkeyPatch) -> None:
    patch.setattr(trees, "_ROOT", os.getuid() + 1)


def let_the_group_write(folder: Path, _: pytest.MonkeyPatch) -> None:
    (folder / "json" / "__init__.py").chmod(0o664)


def let_others_write_behind_a_link(folder: Path, _: pytest.MonkeyPatch) -> None:
    (folder / "site.py").chmod(0o646)


@pytest.mark.parametrize(
    "how", [change_now, be_another_s, let_the_group_write, let_others_write_behind_a_link]
)
def test_what_may_change_unnoticed_has_no_stamp(
    settled: Path,
    monkeypatch: pytest.MonkeyPatch,
    how: Callable[[Path, pytest.MonkeyPatch], None],
) -> None:
    how(settled, monkeypatch)
    sha, stamp = digest_trees([str(settled)])
    assert (len(sha), stamp) == (64, "")


def test_what_is_written_to_while_it_is_read_is_no_evidence(
    settled: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def digest(descriptor: int, view: memoryview) -> str:
        with (settled / "os.py").open("ab") as file:
            file.write(b"#")
        return hashing.digest_descriptor(descriptor, view)

    monkeypatch.setattr(trees, "digest_descriptor", digest)
    with pytest.raises(BlockingIOError):
        digest_trees([str(settled)])


@pytest.mark.parametrize("bound", ["FILES_AT_MOST", "TIME_S"])
def test_more_than_is_read_is_an_error(
    library: Path, monkeypatch: pytest.MonkeyPatch, bound: str
) -> None:
    monkeypatch.setattr(trees, bound, 0)
    for take in (stamp_trees, digest_trees):
        with pytest.raises(OSError, match="Argument list too long"):
            take([str(library)])
    with pytest.raises(FileNotFoundError):
        stamp_trees(["/no/such/folder"])
