"""Git repositories that are made on the fly, with a registry that changes from commit to commit."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest


class Repo:
    """A throwaway repository; its registry is ``app/flags.yaml``."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.registry = folder / "app" / "flags.yaml"
        folder.mkdir()
        self.git("init", "-q", "-b", "main")

    def git(self, *arguments: str) -> str:
        environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(self.folder),
            "GIT_AUTHOR_NAME": "a", "GIT_AUTHOR_EMAIL": "a@b",
            "GIT_COMMITTER_NAME": "a", "GIT_COMMITTER_EMAIL": "a@b",
        }  # fmt: skip
        return subprocess.run(
            ["git", "-C", str(self.folder), "-c", "protocol.file.allow=always", *arguments],
            check=True, capture_output=True, text=True, env=environment,
        ).stdout.strip()  # fmt: skip

    def write(self, text: str | None, path: str = "app/flags.yaml") -> None:
        """Writes a file, or takes it away."""
        file = self.folder / path
        if text is None:
            file.unlink()
            return
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, "utf-8")

    def commit(self, text: str | None = None, path: str = "app/flags.yaml") -> str:
        """Commits everything, with this text of the file where it is given."""
        if text is not None:
            self.write(text, path)
        self.git("add", "-A")
        self.git("commit", "-q", "--allow-empty", "-m", "x")
        return self.git("rev-parse", "HEAD")


@pytest.fixture
def make_repo(tmp_path: Path) -> Callable[[str], Repo]:
    return lambda name: Repo(tmp_path / name)


@pytest.fixture
def repo(make_repo: Callable[[str], Repo]) -> Repo:
    return make_repo("repo")
