"""What each command imports: a person waits for every module, and a stop may break on one."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from .test_inventory import KEY, SMALL

HEAVY = frozenset(
    (
        *("cryptography", "fabric", "hypothesis", "invoke", "paramiko", "pydantic", "pytest"),
        *("rich", "sqlite3", "tenacity", "testinfra", "typer", "vulture", "yaml"),
    )
)
SSH = {"cryptography", "fabric", "invoke", "paramiko"}
ASKS = SSH | {"pydantic", "typer", "yaml"}
COMMANDS: dict[str, tuple[int, set[str]]] = {
    "--version": (0, {"typer"}),
    "--help": (0, {"typer"}),
    "stop -i fleet.yaml --all": (6, {"yaml"}),
    "stop -i fleet.yaml --all --log-file log --verbose": (6, {"yaml"}),
    "status -i fleet.yaml": (5, ASKS),
    "host check -i fleet.yaml": (5, ASKS),
    "deploy -i fleet.yaml 1": (3, ASKS | {"sqlite3", "tenacity"}),
}
"""By what is typed: how it ends where no host is there, and the heavy ones it takes."""
COLLECTED_AT_MOST = 20
"""So often garbage may be looked for: while Python itself starts, and no more."""
ASK = """
import atexit, sys
import gc
def loaded():
    print("COLLECTED", gc.get_stats()[0]["collections"], file=sys.stderr)
    print("LOADED", *sys.modules, file=sys.stderr)
atexit.register(loaded)
from deploytool.cli.entry import main
main()
"""


@pytest.mark.parametrize("typed", COMMANDS)
def test_a_command_imports_what_it_needs(typed: str, tmp_path: Path) -> None:
    closed = SMALL.replace("192.0.2.1,", "127.0.0.1, port: 1,")
    closed = closed.replace("192.0.2.2,", "127.0.0.2, port: 1,")
    (tmp_path / "fleet.yaml").write_text(f"throwaway: true\n{closed}")
    (tmp_path / "known_hosts").write_text(f"[127.0.0.1]:1,[127.0.0.2]:1 {KEY}\n")
    (tmp_path / "router").write_text("#!/bin/sh\necho router 1\n")
    (tmp_path / "router").chmod(0o755)
    if typed.startswith("deploy"):
        words = ["release", "describe", "router", "--name", "router", "--version", "1"]
        run(ASK, words, tmp_path)
    done = run(ASK, typed.split(), tmp_path)
    code, expected = COMMANDS[typed]
    assert done.returncode == code, done.stderr
    loaded = done.stderr.rpartition("LOADED ")[2].split()
    assert {name.partition(".")[0] for name in loaded} & HEAVY == expected
    collected = int(done.stderr.rpartition("COLLECTED ")[2].split()[0])
    assert collected <= COLLECTED_AT_MOST, "what was imported was looked through again and again"


def run(code: str, words: list[str], folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code, *words],
        cwd=folder, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
