"""One repository that passes is made a session; each test breaks a copy of its own."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from .ground import Ground, make


@pytest.fixture(scope="session")
def template(tmp_path_factory: pytest.TempPathFactory) -> Ground:
    return make(tmp_path_factory.mktemp("gate") / "template")


@pytest.fixture
def ground(template: Ground, tmp_path: Path) -> Ground:
    shutil.copytree(template.folder, tmp_path / "repo")
    return Ground(tmp_path / "repo", template.key)
