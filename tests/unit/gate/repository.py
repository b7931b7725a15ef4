"""A repository that passes every check, made on the fly: whoever breaks one rule sees that one."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from deploytool.fleet.inventory import load_inventory
from deploytool.gate.model import Check, GateFinding, GateReport
from deploytool.gate.record import PlayedScenario, RehearsalRecord, shape_of
from deploytool.gate.records import keep
from deploytool.gate.runner import run
from deploytool.gate.subject import GateRequest
from deploytool.release.build import build
from tests.unit.registry.conftest import Repo
from tests.unit.registry.registries import flag, registry, reserved, runtime

SOURCE = Path(__file__).parents[3] / "router_binary"
SCENARIOS = ("healthy", "copy-fails", "missed-host")
HIDDEN = flag("HIDDEN", 0, handler="router.terms:hidden")
FAST = runtime("FAST", 4, handler="router.fast:Fast")
OLD = reserved("POWER_PEG", 3)
GOOD = registry(HIDDEN, FAST, OLD)
RECIPE = """\
version: "1"
registry: flags.yaml
rehearsal_only: false
strategies: []
modules: [cli, terms, fast]
replace: {}
"""
CODE = {
    "boot/__main__.py": '''\
"""Starts."""
import json
import sys
import zipfile

from router.cli import main

TEXT = zipfile.ZipFile(sys.argv[0]).read("build.json")
raise SystemExit(main(json.loads(TEXT), sys.argv[1:]))
''',
    "router/__init__.py": '"""A router."""\n',
    "router/wire.py": 'DIGEST = "' + "0" * 64 + '"\n',
    "router/cli.py": '''\
"""Carries out what the table says."""
from importlib import import_module


def main(info, words):
    """Says the version, or what each flag does."""
    if words == ["--version"]:
        print(info["version_line"])
        return 0
    for entry in info["flags"]["entries"]:
        module, _, name = entry.get("handler", ":").partition(":")
        if module:
            print(getattr(import_module(module), name))
    return 0
''',
    "router/terms.py": 'def hidden():\n    """Hides."""\n',
    "router/fast.py": 'class Fast:\n    """Is fast."""\n',
}
INVENTORY = """\
fleet: production
expect: 8
release_root: /opt/router
service:
  name: router
  supervisor: systemd
  start: ["{current}/router", "serve"]
  version: ["{current}/router", "--version"]
  status: ["{current}/router", "status"]
  ready_timeout_s: 20
gateway:
  use: [gate, use, "{bit}"]
  withdraw: [gate, withdraw, "{bit}"]
  observe: [gate, observe]
  timeout_s: 5
membership:
  command: [gate, members]
  timeout_s: 5
rehearsal:
  records: ../records
  signers: signers
ssh:
  known_hosts: known_hosts
  connect_timeout_s: 5
  command_timeout_s: 30
waves: [1, 3, rest]
hosts:
"""
HOSTS = 8
FLEET = "inventories/fleet.yaml"


def host_line(number: int) -> str:
    return f"  router{number}: {{address: 192.0.2.{number}}}\n"


def new_key(folder: Path, name: str) -> Path:
    path = folder / name
    command = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", name, "-f", str(path)]
    subprocess.run(command, check=True, timeout=30, stdin=subprocess.DEVNULL)
    return path


def pinned(number: int) -> str:
    """A host's line in known_hosts, with a key that nobody has."""
    import base64

    kind = b"ssh-ed25519"
    body = hashlib.sha256(str(number).encode()).digest()
    blob = b"".join(len(part).to_bytes(4, "big") + part for part in (kind, body))
    return f"192.0.2.{number} ssh-ed25519 {base64.b64encode(blob).decode()}\n"


class GateRepository:
    """The repository, with the key of who rehearses."""

    def __init__(self, folder: Path, key: Path) -> None:
        self.folder = folder
        self.key = key
        self.request = GateRequest(
            folder / "app/flags.yaml", folder / "store", time.time(), branch="main", gap_s=0.0
        )

    def path(self, name: str) -> Path:
        return self.folder / name

    def git(self, *words: str) -> str:
        return Repo.git(self, *words)  # type: ignore[arg-type]

    def commit(self) -> str:
        self.git("add", "-A")
        self.git("commit", "-q", "--allow-empty", "-m", "x")
        return self.git("rev-parse", "HEAD")

    def write(self, name: str, text: str) -> Path:
        path = self.path(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        return path

    def change(self, name: str, old: str, new: str) -> None:
        text = self.path(name).read_text(encoding="utf-8")
        assert text.count(old) >= 1, (name, old)
        self.write(name, text.replace(old, new, 1))

    def line(self, name: str, text: str) -> int:
        """The line on which a text stands first."""
        lines = self.path(name).read_text(encoding="utf-8").splitlines()
        return next(number for number, line in enumerate(lines, start=1) if text in line)

    def digest(self) -> str:
        """What today's source builds to."""
        out = self.folder.parent / "out"
        command = [sys.executable, str(self.path("app/build.py")), "1", "--out", str(out)]
        subprocess.run(command, check=True, timeout=60, capture_output=True)
        return hashlib.sha256((out / "router").read_bytes()).hexdigest()

    def record(self, **other: object) -> RehearsalRecord:
        """A rehearsal of today's build on eight hosts, just now, all passed."""
        now = int(self.request.now)
        played = (PlayedScenario(name=name, passed=True, points=5, held=5) for name in SCENARIOS)
        said = {
            "release": other.get("release") or self.digest(),
            "shape": shape_of(load_inventory(self.path("inventories/fleet.yaml"))),
            "began": now - 60,
            "ended": now - 10,
            "scenarios": tuple(played),
        }
        fixed = {"tool": "deploytool 1", "version": "1", "baseline": "0" * 64, "fleet": "container"}
        return RehearsalRecord.model_validate({**fixed, **said, **other})

    def rehearse(self, **other: object) -> Path:
        return keep(self.path("records"), self.record(**other), self.key)

    def release(self) -> str:
        """Builds today's source into the store, and rehearses that."""
        made = build(self.request.store, self.path("app"), "1")
        self.rehearse(release=str(made.digest))
        return str(made.digest)

    def run(self, *asked: Check, **request: object) -> GateReport:
        changed = replace(self.request, **request)  # type: ignore[arg-type]
        return run(changed, asked or tuple(Check))


def make(folder: Path) -> GateRepository:
    """The repository that passes, in an empty folder."""
    folder.mkdir(parents=True)
    repo = Repo(folder / "repo")
    repository = GateRepository(repo.folder, new_key(folder, "ci"))
    for name, text in CODE.items():
        repository.write(f"app/{name}", text)
    for name in ("build.py", "registry.py"):
        shutil.copyfile(SOURCE / name, repository.path("app") / name)
    repository.write("app/flags.yaml", GOOD)
    repository.write("app/builds/1.yaml", RECIPE)
    hosts = range(1, HOSTS + 1)
    repository.write("inventories/fleet.yaml", INVENTORY + "".join(map(host_line, hosts)))
    repository.write("inventories/known_hosts", "".join(map(pinned, hosts)))
    public = repository.key.with_suffix(".pub").read_text()
    repository.write("inventories/signers", f'ci namespaces="rehearsal.deploytool" {public}')
    repository.write(".gitignore", "__pycache__/\n/records/\n/store/\n")
    repository.commit()
    repository.git("tag", "base")
    repository.git("checkout", "-q", "-b", "pr")
    repository.rehearse()
    return repository


def refused(report: GateReport) -> dict[str, list[GateFinding]]:
    """The checks that did not pass, with what they found."""
    return {
        result.check.value: list(result.findings) for result in report.results if not result.passed
    }


def only(report: GateReport) -> GateFinding:
    """The one thing that one check found, where all others passed."""
    bad = refused(report)
    assert len(bad) == 1, bad
    (findings,) = bad.values()
    assert len(findings) == 1, findings
    return findings[0]


Break = Callable[[GateRepository], None]
