"""What git says of the checkout that is gated: its commit, what differs from it, what hides."""

from __future__ import annotations

import hashlib
from pathlib import Path

from deploytool.errors import InputError
from deploytool.registry.git import Repository

_LINK = "160000"
_MEANS = "Nothing was touched, and nothing is proven about this checkout."


class Checkout(Repository):
    """A repository with a commit that is checked out.

    Raises:
        InputError: there is none, its history is cut off, or nothing was ever committed.
        EnvironmentProblem: ``git`` is missing, or does not end in time.
    """

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.head, at = self._head()
        self.committed_at = float(at)
        """When the commit that is checked out was made, in seconds since the epoch."""

    def _head(self) -> tuple[str, str]:
        head = self._try("rev-parse", "--verify", "--quiet", "HEAD^{commit}")
        if head is None:
            raise InputError(
                f"Nothing was ever committed in {self.top}.", _MEANS, "Commit it, then try again."
            )
        return head, self._git("show", "--no-patch", "--format=%ct", head).strip()

    def relative(self, path: Path) -> str:
        """The path below the repository's top; as it is where it lies elsewhere."""
        try:
            return path.resolve().relative_to(self.top.resolve()).as_posix()
        except ValueError:
            return str(path)

    def around(self) -> str:
        """The checkout that this one is a submodule of; empty where it is none."""
        return self._git("rev-parse", "--show-superproject-working-tree").strip()

    def submodules(self, folder: Path) -> tuple[str, ...]:
        """The submodules at or below a folder."""
        staged = self._git("ls-files", "-z", "--stage", "--", self._literal(folder)).split("\0")
        return tuple(line.partition("\t")[2] for line in staged if line.startswith(_LINK))

    def changed(self, folder: Path) -> tuple[str, ...]:
        """What lies below a folder and isn't as it was committed, new files included.

        What the index was told to look away from (``assume-unchanged``, ``skip-worktree``) counts
        as changed: nobody knows whether it is.
        """
        spec = self._literal(folder)
        said = self._git(
            "-c", "core.fsmonitor=false", "status", "--porcelain", "-z", "--no-renames",
            "--untracked-files=all", "--ignore-submodules=none", "--", spec,
        )  # fmt: skip
        listed = self._git("ls-files", "-v", "-z", "--", spec).split("\0")
        hidden = {line[2:] for line in listed if line and (line[0].islower() or line[0] == "S")}
        return tuple(sorted({line[3:] for line in said.split("\0") if line} | hidden))

    def contents(self, folder: Path) -> frozenset[str]:
        """The git objects of every file below a folder, as the checked-out commit has them."""
        said = self._git("ls-tree", "-r", "-z", self.head, "--", self.relative(folder)).split("\0")
        return frozenset(line.split("\t")[0].split()[2] for line in said if line)

    def object_of(self, content: bytes) -> str:
        """The git object that a file with these bytes is."""
        kind = hashlib.sha256 if len(self.head) == 64 else hashlib.sha1
        return kind(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()

    def files(self, *endings: str) -> tuple[Path, ...]:
        """Every file with one of these endings that is, or would be, committed."""
        specs = [f":(glob)**/*{ending}" for ending in endings]
        said = self._git(
            "ls-files", "-z", "--cached", "--others", "--exclude-standard", "--", *specs
        )
        found = sorted({self.top / name for name in said.split("\0") if name})
        return tuple(path for path in found if path.is_file())

    def _literal(self, folder: Path) -> str:
        return f":(literal){self.relative(folder)}"
