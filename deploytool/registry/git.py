"""Every version of a file in the first-parent history of a branch, told by ``git``.

What could hide a version is switched off or refused: shallow clones, replaced commits, grafts,
variables that point ``git`` at another repository. A history that isn't whole is an error.
"""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from deploytool.errors import EnvironmentProblem, InputError

_DEADLINE_S = 120
_SETTINGS_AT_MOST = 1000
_RAW = re.compile(r":(\d+) (\d+) ([0-9a-f]+) ([0-9a-f]+) ([A-Z])(\d*)\t([^\t]*)(?:\t(.*))?\Z")
_CONFIG = (
    *("core.quotePath=false", "core.fsmonitor=false", "color.ui=false"),
    *("log.showRoot=true", "log.follow=false", "log.showSignature=false"),
    *("diff.orderFile=/dev/null", "diff.relative=false", "diff.ignoreSubmodules=none"),
)
"""What anyone's own settings would otherwise add to what git prints, or run."""
_MEANS = "Nothing was touched, and nothing is proven about any flag: its past can't be read."


@dataclass(frozen=True)
class Version:
    """What a file was in one commit; ``content`` None: git could not give it."""

    commit: str
    date: str
    path: str
    blob: str
    content: bytes | None

    @property
    def place(self) -> str:
        """Where it is found again."""
        return f"{self.commit[:12]} ({self.date}) {self.path}"


@dataclass(frozen=True)
class _GitChange:
    """One line of git's raw output."""

    commit: str
    date: str
    status: str
    blobs: tuple[tuple[str, str], ...]
    """Path and object of each side that is there."""
    path: str


class Repository:
    """A git repository whose history is whole.

    Raises:
        InputError: there is none, or it is a shallow clone.
        EnvironmentProblem: ``git`` is missing, or does not end in time.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        try:
            self.top = self._folder = Path(self._git("rev-parse", "--show-toplevel").strip())
        except EnvironmentProblem:
            raise
        except InputError as error:
            raise InputError(
                f"{folder} is not in a git repository that git reads.", _MEANS,
                "Run it in a full clone, or name one with --repo DIR.", error.details,
            ) from error  # fmt: skip
        if self._try("rev-parse", "--is-shallow-repository") != "false":
            raise InputError(
                f"The clone {self.top} is shallow: its history was cut off.",
                _MEANS,
                f"git -C {self.top} fetch --unshallow",
            )

    def branch(self, name: str | None) -> tuple[str, str]:
        """The branch's name and its last commit; without a name, the one that is checked out.

        Raises:
            InputError: there is no such branch, or none is checked out.
        """
        found = name or self._try("symbolic-ref", "--quiet", "--short", "HEAD")
        if found is None:
            raise InputError(
                "No branch is checked out (HEAD is detached), and none is named.",
                _MEANS,
                "Name the release branch, as in: --branch main",
            )
        commit = self._try(
            "rev-parse", "--verify", "--quiet", "--end-of-options", f"{found}^{{commit}}"
        )
        if commit is None:
            raise InputError(
                f"There is no branch {found!r} with a commit in {self.top}.",
                _MEANS,
                f"git -C {self.top} branch --all shows the names; fetch it, or name another.",
            )
        return found, commit

    def versions(self, path: str, tip: str) -> tuple[tuple[Version, ...], frozenset[str]]:
        """Every version of ``path`` and of any YAML file that ``tip``'s first parents had.

        ``path`` is followed through renames: what was added is checked against what the same commit
        took away. The second value are the names that it had, its own among them.
        """
        paths = [path]
        changes = list(self._log(tip, f":(literal){path}", ":(glob)**/*.y*ml"))
        for name in paths:  # it grows while it is walked: a file may have moved more than once
            mine = changes if name == path else list(self._log(tip, f":(literal){name}"))
            changes += [] if mine is changes else mine
            added = [c for c in mine if c.status == "A" and c.path == name]
            paths += [s for c in added for s in self._sources(c) if s not in paths]
        return self._contents(changes), frozenset(paths)

    def names(self, tip: str) -> frozenset[str]:
        """The files that are there in a commit."""
        said = self._git("ls-tree", "-r", "-z", "--name-only", "--full-tree", tip)
        return frozenset(said.split("\0"))

    def _log(self, tip: str, *specs: str) -> Iterator[_GitChange]:
        form = "--format=%x01%H %cs"
        said = self._git(
            "log", "--first-parent", "--diff-merges=first-parent", "--raw", "--no-abbrev",
            "--no-renames", form, tip, "--", *specs,
        )  # fmt: skip
        commit = date = ""
        for line in said.splitlines():
            if line.startswith("\x01"):
                commit, date = line[1:].split()
            elif line:
                yield _change(line, commit, date)

    def _sources(self, added: _GitChange) -> Iterator[str]:
        """The names that the added file may have had before the commit that added it."""
        parent = self._try("rev-parse", "--verify", "--quiet", f"{added.commit}^1")
        if parent is None:
            return
        said = self._git("diff-tree", "-r", "--raw", "--no-abbrev", "-M10%", parent, added.commit)
        for line in said.splitlines():
            change = _change(line, added.commit, added.date)
            if change.status == "R" and change.path == added.path:
                yield change.blobs[0][0]

    def _contents(self, changes: list[_GitChange]) -> tuple[Version, ...]:
        first: dict[tuple[str, str], _GitChange] = {}
        for change in changes:  # newest first: the last one that is written is the oldest
            for key in change.blobs:
                first[key] = change
        blobs = sorted({blob for _, blob in first})
        contents = self._cat(blobs)
        return tuple(
            Version(change.commit, change.date, path, blob, contents[blob])
            for (path, blob), change in first.items()
        )

    def _cat(self, blobs: list[str]) -> dict[str, bytes | None]:
        said = self._run("cat-file", "--batch", given="".join(f"{b}\n" for b in blobs).encode())
        contents: dict[str, bytes | None] = {}
        at = 0
        for blob in blobs:
            end = said.index(b"\n", at)
            words = said[at:end].split()
            at = end + 1
            contents[blob] = None
            if len(words) == 3:
                size = int(words[2])
                contents[blob] = said[at : at + size] if words[1] == b"blob" else None
                at += size + 1
        return contents

    def _try(self, *arguments: str) -> str | None:
        try:
            return self._git(*arguments).strip() or None
        except EnvironmentProblem:
            raise
        except InputError:
            return None

    def _git(self, *arguments: str) -> str:
        return self._run(*arguments).decode("utf-8", "surrogateescape")

    def _run(self, *arguments: str, given: bytes = b"") -> bytes:
        settings = (*_CONFIG, *_safe_folders())
        config = [word for setting in settings for word in ("-c", setting)]
        own = {key: value for key, value in os.environ.items() if not key.startswith("GIT_")}
        own |= {"GIT_NO_REPLACE_OBJECTS": "1", "GIT_GRAFT_FILE": os.devnull, "LC_ALL": "C"}
        try:
            done = subprocess.run(
                ["git", "-C", str(self._folder), *config, *arguments],
                input=given, capture_output=True, timeout=_DEADLINE_S, check=False, env=own,
            )  # fmt: skip
        except FileNotFoundError as error:
            raise EnvironmentProblem(
                "There is no git on this machine.", _MEANS, "Install git."
            ) from error
        except subprocess.TimeoutExpired as error:
            raise EnvironmentProblem(
                f"git {arguments[0]} did not end within {_DEADLINE_S} s.", _MEANS, "Try again."
            ) from error
        if done.returncode != 0:
            errors = done.stderr.decode("utf-8", "replace").strip().splitlines()[-20:]
            raise InputError(
                f"git {arguments[0]} failed in {self._folder}.", _MEANS,
                "Fix what git names (a fresh full clone does), then try again.", tuple(errors),
            )  # fmt: skip
        return done.stdout


def _safe_folders() -> tuple[str, ...]:
    """Whose checkouts git may read, as the environment says it (git-config(1), GIT_CONFIG_COUNT).

    All other settings of the environment are left out.
    """
    count = os.environ.get("GIT_CONFIG_COUNT", "")
    numbers = range(min(int(count), _SETTINGS_AT_MOST)) if count.isdecimal() else ()
    pairs = (
        (os.environ.get(f"GIT_CONFIG_KEY_{n}", ""), os.environ.get(f"GIT_CONFIG_VALUE_{n}", ""))
        for n in numbers
    )
    return tuple(f"{key}={value}" for key, value in pairs if key.lower() == "safe.directory")


def _change(line: str, commit: str, date: str) -> _GitChange:
    found = _RAW.match(line)
    if found is None:
        raise ValueError(f"git said what is not understood: {line!r}")
    _, _, old, new, status, _, one, two = found.groups()
    sides = ((one, old), (two or one, new))
    blobs = tuple((path, blob) for path, blob in sides if blob.strip("0"))
    return _GitChange(commit, date, status, blobs, two or one)
