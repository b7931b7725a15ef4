"""A stop as a person types it, with hosts of every kind behind a client on the PATH."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from deploytool.stop import runtime_dir

from .bad import AGENT, EMPTY, FENCED, HALTED, KILLED

ROOT = Path(__file__).parents[3]
HOSTS = ("router1", "router2", "router3")
SSH = f"""#!{sys.executable} -I
import os, sys
address = sys.argv[sys.argv.index("--") + 1]
with open({{says!r}} + "/" + address) as file:
    said = file.read()
os.execv(sys.executable, [sys.executable, "-I", {{helper!r}}, said])
"""
WITNESS = """
import json, time
last = {"router1": None, "router2": 5, "router3": 5.5}
print(json.dumps({"taken": time.time(), "last_child": last}))
"""

WITNESS_COMMAND = (sys.executable, "-c", WITNESS)


@dataclass(frozen=True)
class Stopped:
    """How a stop ended."""

    code: int
    out: str
    err: str

    @property
    def document(self) -> dict[str, Any]:
        """What it printed for programs."""
        found: dict[str, Any] = json.loads(self.out)
        return found

    @property
    def ends(self) -> dict[str, str]:
        """Where each host's ladder ended."""
        return {row["host"]: row["end"] for row in self.document["hosts"]}


class Keys:
    """Three hosts, an inventory, and a key to press."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.inventory = folder / "fleet.yaml"
        for name in ("says", "bin"):
            (folder / name).mkdir()
        helper, ssh = folder / "helper.py", folder / "bin" / "ssh"
        helper.write_text(AGENT)
        ssh.write_text(SSH.format(says=str(folder / "says"), helper=str(helper)))
        ssh.chmod(0o755)
        for number, host in enumerate(HOSTS, 1):
            self.says(host, number)
        self.witness(list(WITNESS_COMMAND))

    def says(self, host: str, number: int, **answers: object) -> None:
        """What a host answers to each verb; the usual where nothing else is said."""
        usual = {"halt": HALTED, "fence": FENCED, "kill": KILLED, "look": EMPTY}
        said = {**usual, **answers, "log": str(self.folder / host)}
        (self.folder / "says" / f"192.0.2.{number}").write_text(json.dumps(said))

    def declare(self, **more: object) -> None:
        """Writes the inventory."""
        said: dict[str, Any] = {
            "fleet": "test",
            "expect": len(HOSTS),
            "release_root": "/opt/router",
            "service": {"name": "router", "supervisor": "process"},
            "ssh": {"known_hosts": "known_hosts"},
            "hosts": {h: {"address": f"192.0.2.{n}"} for n, h in enumerate(HOSTS, 1)},
        }
        self.inventory.write_text(yaml.safe_dump({**said, **more}))

    def witness(self, command: list[str], timeout_s: float = 5.0, **more: object) -> None:
        """The same, with who sees the silence."""
        self.declare(silence={"command": command, "timeout_s": timeout_s}, **more)

    def told(self, host: str) -> list[str]:
        """What a host was told, in order."""
        log = self.folder / host
        return log.read_text().split() if log.exists() else []

    def press(self, *words: str, begin: tuple[str, ...] = (), **given: Any) -> Stopped:
        """Presses the key; ``begin`` is put before the command."""
        with self.pressed(*words, begin=begin, **given) as process:
            out, err = process.communicate(timeout=50)
        return Stopped(process.returncode, out, err)

    def pressed(
        self, *words: str, begin: tuple[str, ...] = (), **given: Any
    ) -> subprocess.Popen[str]:
        """The key, pressed, with whatever comes of it still to come."""
        # As a terminal's shell starts it, also where these tests run in the background.
        code = (
            "import signal; signal.signal(signal.SIGINT, signal.default_int_handler); "
            "from deploytool.cli.entry import main; main()"
        )
        env = {
            "PATH": f"{self.folder / 'bin'}:{os.environ['PATH']}",
            "PYTHONPATH": str(ROOT),
            "HOME": str(self.folder),
        }
        chosen = words or ("--all",)
        given = {"cwd": self.folder, "env": env, "stdin": subprocess.DEVNULL, "text": True} | given
        given = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **given}
        argv = [*begin, sys.executable, "-c", code]
        argv += ["stop", "-i", str(self.inventory), *chosen, "--json"]
        process: subprocess.Popen[str] = subprocess.Popen(argv, **given)
        return process


@pytest.fixture
def keys(tmp_path: Path) -> Iterator[Keys]:
    made = Keys(tmp_path)
    yield made
    # Helpers that hang outlive whoever asked them.
    for process in Path("/proc").glob("[0-9]*"):
        try:
            words = (process / "cmdline").read_bytes()
        except OSError:
            continue
        if str(tmp_path).encode() in words and int(process.name) != os.getpid():
            os.kill(int(process.name), signal.SIGKILL)


@pytest.fixture
def runtime(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A user's folders for sockets, of which no other test knows; a socket's path must be short."""
    with tempfile.TemporaryDirectory(prefix="w") as folder:
        monkeypatch.setattr(runtime_dir, "_RUNTIME", f"{folder}/run")
        monkeypatch.setattr(runtime_dir, "_COMMON", folder)
        yield Path(folder)
