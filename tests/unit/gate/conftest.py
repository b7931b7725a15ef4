"""One repository that passes is made a session; each test breaks a copy of its own."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from .repository import GateRepository, make


@pytest.fixture(scope="session")
def template(tmp_path_factory: pytest.TempPathFactory) -> GateRepository:
    return make(tmp_path_factory.mktemp("gate") / "template")


@pytest.fixture
def repository(template: GateRepository, tmp_path: Path) -> GateRepository:
    shutil.copytree(template.folder, tmp_path / "repo")
    return GateRepository(tmp_path / "repo", template.key)
