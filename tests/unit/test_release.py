"""A release is what its manifest says, or it is none: nothing that lies gets out of the store."""

from __future__ import annotations

import errno
import shutil
import stat
from pathlib import Path

import pytest

from deploytool.errors import EnvironmentProblem, InputError
from deploytool.release.build import check_version, describe
from deploytool.release.model import Manifest, Release
from deploytool.release.store import add, all_releases, file_digest, find, known_releases, load

SCRIPT = "#!/bin/sh\necho thing {version}\n"


def artifact(folder: Path, version: str = "1.0", text: str = SCRIPT) -> Path:
    path = folder / f"artifact-{version}"
    path.write_text(text.format(version=version))
    path.chmod(0o755)
    return path


def made(tmp_path: Path, version: str = "1.0", line: str | None = None) -> Release:
    file = artifact(tmp_path, version)
    store = tmp_path / "store"
    return describe(store, file, name="thing", version=version, requires=(), version_line=line)


def folder_of(release: Release) -> Path:
    return Path(release.artifact).parent


def rewrite(path: Path, content: bytes) -> None:
    mode = path.stat().st_mode
    path.chmod(0o644)
    path.write_bytes(content)
    path.chmod(mode)


def test_any_executable_file_is_a_release_once_it_is_described(tmp_path: Path) -> None:
    release = made(tmp_path)
    assert release.manifest.version_line == "thing 1.0"
    assert folder_of(release).name == release.digest == file_digest(Path(release.artifact))
    assert stat.S_IMODE(Path(release.artifact).stat().st_mode) == 0o555
    assert load(folder_of(release)) == release
    assert made(tmp_path) == release, "the same release may be added again"


def test_every_release_of_the_store_is_known_by_digest_and_size(tmp_path: Path) -> None:
    releases = [made(tmp_path, version) for version in ("1.0", "1.1", "1.2")]
    store = tmp_path / "store"
    wanted = {(item.digest, item.manifest.size) for item in releases}
    assert {(item.sha, item.size) for item in known_releases(store)} == wanted
    rewrite(folder_of(releases[0]) / "release.json", b"{")
    (store / "not-a-digest").mkdir()
    wanted.discard((releases[0].digest, releases[0].manifest.size))
    assert {(item.sha, item.size) for item in known_releases(store)} == wanted
    assert known_releases(tmp_path / "none") == ()


def test_a_store_that_cant_be_used_is_no_bug(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    release = made(tmp_path)
    store = tmp_path / "store"
    with monkeypatch.context() as patched:
        patched.setattr(shutil, "copyfile", refused)
        with pytest.raises(EnvironmentProblem, match="No space left"):
            made(tmp_path, "2.0")
    assert all_releases(store) == (release,), "nothing half-made is left"
    monkeypatch.setattr(Path, "iterdir", refused)
    for asks in (all_releases, lambda store: find(store, "1.0")):
        with pytest.raises(EnvironmentProblem, match="can't be used"):
            asks(store)


def truncated(folder: Path) -> None:
    rewrite(folder / "thing", (folder / "thing").read_bytes()[:-1])


def altered(folder: Path) -> None:
    rewrite(folder / "thing", (folder / "thing").read_bytes()[:-1] + b"!")


def not_executable(folder: Path) -> None:
    (folder / "thing").chmod(0o444)


def a_link(folder: Path) -> None:
    (folder / "thing").rename(folder / "elsewhere")
    (folder / "thing").symlink_to(folder / "elsewhere")


def missing(folder: Path) -> None:
    (folder / "thing").unlink()


def no_manifest(folder: Path) -> None:
    (folder / "release.json").unlink()


def huge_manifest(folder: Path) -> None:
    rewrite(folder / "release.json", b" " * 70_000)


def lying_manifest(folder: Path) -> None:
    text = (folder / "release.json").read_bytes()
    rewrite(folder / "release.json", text.replace(b'"sha256":"', b'"sha256":"0', 1))


def manifest_of_another(folder: Path) -> None:
    manifest = Manifest.parse((folder / "release.json").read_bytes())
    other = manifest.model_copy(update={"sha256": "0" * 64})
    rewrite(folder / "release.json", other.canonical())


def manifest_with_more(folder: Path) -> None:
    text = (folder / "release.json").read_bytes()
    rewrite(folder / "release.json", text.replace(b"{", b'{"a":1,', 1))


def manifest_that_leaves_its_folder(folder: Path) -> None:
    text = (folder / "release.json").read_bytes()
    rewrite(folder / "release.json", text.replace(b'"thing"', b'"../x"', 1))


HARMS = [
    truncated,
    altered,
    not_executable,
    a_link,
    missing,
    no_manifest,
    huge_manifest,
    lying_manifest,
    manifest_of_another,
    manifest_with_more,
    manifest_that_leaves_its_folder,
]


@pytest.mark.parametrize("harm", HARMS)
def test_p1_what_is_not_as_the_manifest_says_is_no_release(tmp_path: Path, harm: object) -> None:
    folder = folder_of(made(tmp_path))
    folder.chmod(0o755)
    assert callable(harm)
    harm(folder)
    for look in (lambda: load(folder), lambda: all_releases(folder.parent)):
        with pytest.raises(InputError) as caught:
            look()
        assert caught.value.exit_code == 2
        assert str(folder) in caught.value.what
        assert caught.value.means == "Nothing was touched."


def test_p1_a_version_line_that_is_not_what_it_says_is_found(tmp_path: Path) -> None:
    check_version(made(tmp_path))
    with pytest.raises(InputError, match=r"says it is 'thing 2\.0'"):
        check_version(made(tmp_path, "2.0", line="thing 9.9"))


def test_the_bytes_never_change_and_a_label_of_clean_source_stays(tmp_path: Path) -> None:
    release = made(tmp_path)
    clean = release.manifest.model_copy(update={"revision": "a", "clean": True})
    unclean = clean.model_copy(update={"revision": "b", "clean": False})
    for label, stays in ((clean, clean), (unclean, clean)):
        kept = add(tmp_path / "store", Path(release.artifact), label)
        assert kept.manifest == stays
        assert load(folder_of(release)) == kept
    liar = clean.model_copy(update={"size": 1})
    with pytest.raises(InputError, match="its manifest says 1"):
        add(tmp_path / "store", Path(release.artifact), liar)
    assert load(folder_of(release)).manifest == clean


@pytest.mark.parametrize(
    "text", ["#!/bin/sh\nexit 3\n", "#!/bin/sh\n", "#!/no/such/shell\n", "#!/bin/sh\nsleep 60\n"]
)
def test_an_artifact_without_a_version_is_not_guessed_at(
    tmp_path: Path, text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("deploytool.release.build._VERSION_DEADLINE_S", 0.3)
    file = artifact(tmp_path, text=text)
    with pytest.raises(InputError):
        describe(
            tmp_path / "store", file, name="thing", version="1", requires=(), version_line=None
        )
    assert all_releases(tmp_path / "store") == ()


def test_a_file_that_cant_run_is_no_artifact(tmp_path: Path) -> None:
    file = artifact(tmp_path)
    file.chmod(0o644)
    for path in (file, tmp_path, tmp_path / "absent"):
        with pytest.raises(InputError, match="not an executable file"):
            describe(tmp_path / "store", path, name="t", version="1", requires=(), version_line="t")


@pytest.mark.parametrize("name", ["Thing", "../x", "", "a b", "x" * 40])
def test_a_name_that_no_manifest_may_have_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(InputError, match="can't be described") as caught:
        describe(
            tmp_path / "store",
            artifact(tmp_path),
            name=name,
            version="1",
            requires=("python3; rm",),
            version_line='say "x"',
        )
    assert len(caught.value.details) == 3, "every mistake at once"


def test_p1_a_digest_never_means_a_release_that_lies_under_its_name(tmp_path: Path) -> None:
    store = tmp_path / "store"
    one, two = made(tmp_path, "1.0"), made(tmp_path, "2.0")
    folder_of(two).rename(tmp_path / "two")
    folder_of(one).rename(store / two.digest)
    for word in (two.digest, two.digest[:8], "1.0", "2.0"):
        with pytest.raises(InputError, match="not what its name says"):
            find(store, word)


def test_a_word_means_one_release_or_none(tmp_path: Path) -> None:
    store = tmp_path / "store"
    one, two = made(tmp_path, "1.0"), made(tmp_path, "2.0")
    for word in ("1.0", one.digest, one.digest[:8], str(folder_of(one))):
        assert find(store, word) == one
    assert find(store, "2.0") == two
    for word in ("3.0", one.digest[:5], "f" * 64):
        with pytest.raises(InputError, match="is no release") as caught:
            find(store, word)
        assert any(two.digest[:8] in line for line in caught.value.details)
    with pytest.raises(InputError, match="is no release"):
        find(tmp_path / "no-store", "1.0")
