"""The wheel: installed past any checkout, it has all that its commands need."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from pathlib import Path

import pytest

from deploytool.release.build import build
from deploytool.shipped import ROOT as CHECKOUT
from tests.unable import unable

from .test_docs import docs

pytestmark = pytest.mark.slow
FLEET = Path(".deploytool/fleets/local/inventory.yaml")


def _ran(*words: str, cwd: Path, ok: bool = True) -> subprocess.CompletedProcess[str]:
    env = {k: v for k, v in os.environ.items() if not k.startswith(("DEPLOYTOOL_", "PYTHON"))}
    done = subprocess.run(
        words, cwd=cwd, env=env, capture_output=True, text=True, timeout=120, check=False
    )
    assert not ok or done.returncode == 0, f"{words}\n{done.stdout}\n{done.stderr}"
    return done


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The console script of an environment that has the wheel, and of the checkout nothing.

    Its dependencies are those of the tests' own environment, so that no index is asked.
    """
    folder = tmp_path_factory.mktemp("wheel")
    for path in docs.tracked("*"):
        copy = folder / "source" / path.relative_to(docs.ROOT)
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(path, copy)
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet"]
    options = ["--no-deps", "--no-index", "--no-build-isolation", "--wheel-dir", "."]
    _ran(*pip, "wheel", *options, "./source", cwd=folder)
    shutil.rmtree(folder / "source")
    _ran(sys.executable, "-m", "venv", "--without-pip", "venv", cwd=folder)
    python = folder / "venv" / "bin" / "python"
    packages = Path(_ran(str(python), "-c", _PURELIB, cwd=folder).stdout.strip())
    # Lines in it are only added to the path: how the checkout itself is installed is not followed.
    (packages / "dependencies.pth").write_text(sysconfig.get_paths()["purelib"] + "\n")
    (wheel,) = folder.glob("*.whl")
    pip += ["--python", str(python)]
    _ran(*pip, "install", "--no-deps", "--no-index", str(wheel), cwd=folder)
    return str(python.with_name("deploytool"))


_PURELIB = "import sysconfig; print(sysconfig.get_paths()['purelib'])"


def test_it_is_not_the_checkout(program: str, tmp_path: Path) -> None:
    python = Path(program).with_name("python")
    code = "import deploytool.shipped as s; print(s.ROOT)"
    root = Path(_ran(str(python), "-c", code, cwd=tmp_path).stdout.strip())
    assert root.is_relative_to(python.parents[1])
    assert root != CHECKOUT
    recipe = ("Vagrantfile", "vagrant/build-box", "deploytool/rehearsal/fleets/bare.sh")
    assert [name for name in recipe if not (root / name).is_file()] == []
    manual = python.parents[1] / "share/man/man1/deploytool.1"
    assert manual.read_text() == docs.MANUAL.read_text()


def test_it_builds_the_same_router(program: str, tmp_path: Path) -> None:
    _ran(program, "release", "build", "2026.1", cwd=tmp_path)
    here = build(tmp_path / "here", CHECKOUT / "router_binary", "2026.1")
    (there,) = (tmp_path / ".deploytool" / "store").iterdir()
    assert there.name == here.digest
    assert '"revision":null' in (there / "release.json").read_text()


@pytest.mark.parametrize("words", [("-h",), ("stop", "-h"), ("fleet", "up", "-h")])
def test_help_has_a_short_form(program: str, words: tuple[str, ...], tmp_path: Path) -> None:
    assert "Usage: deploytool" in _ran(program, *words, cwd=tmp_path).stdout


def test_it_is_a_module_and_completes_words(program: str, tmp_path: Path) -> None:
    python = str(Path(program).with_name("python"))
    said = _ran(python, "-m", "deploytool", "--version", cwd=tmp_path).stdout
    assert said.startswith("deploytool ")
    script = _ran(program, "--show-completion", "bash", cwd=tmp_path).stdout
    assert "_deploytool_completion" in script


def test_a_gate_without_a_source_says_what_it_lacks(program: str, tmp_path: Path) -> None:
    done = _ran(program, "gate", cwd=tmp_path, ok=False)
    assert done.returncode == 2
    assert "router_binary/flags.yaml" in done.stdout + done.stderr
    assert "What to do now:" in done.stderr


@pytest.fixture
def fleet(program: str, tmp_path: Path) -> Iterator[Path]:
    if shutil.which("sshd", path=f"{os.environ['PATH']}:/usr/sbin:/usr/local/sbin") is None:
        unable("OpenSSH's server is not installed")
    try:
        _ran(program, "fleet", "up", "--hosts", "2", cwd=tmp_path)
        yield tmp_path
    finally:
        _ran(program, "fleet", "down", cwd=tmp_path)


@pytest.mark.sshd
def test_it_deploys_verifies_and_stops(program: str, fleet: Path) -> None:
    _ran(program, "release", "build", "2026.1", cwd=fleet)
    _ran(program, "deploy", "-i", str(FLEET), "2026.1", cwd=fleet)
    verified = _ran(program, "verify", "-i", str(FLEET), cwd=fleet)
    assert verified.stdout.count("specs that passed: 2") == 2
    stopped = _ran(program, "stop", "-i", str(FLEET), "--all", cwd=fleet, ok=False)
    assert stopped.returncode == 6, "no witness is named"
    assert stopped.stdout.count("HALTED") >= 2
