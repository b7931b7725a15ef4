"""docs/contract.md from both sides: what deploytool reads, and what twenty lines of shell offer."""

from __future__ import annotations

import json
import re
import subprocess
import time
from collections.abc import Callable, Iterator
from enum import Enum
from pathlib import Path
from typing import Any

import pytest

from deploytool.errors import DeploytoolError
from deploytool.fleet.inventory import load_inventory
from deploytool.fleet.remote import connect_fleet
from deploytool.parity.model import Parity, Verdict
from deploytool.release.build import describe
from deploytool.release.model import Manifest, Release
from deploytool.rollout.journal import Journal
from deploytool.rollout.outcome import conclude
from deploytool.rollout.report import Report
from deploytool.rollout.runner import Runner

from .sides import ARTIFACT, Real, shell_release

GOLDEN = Path(__file__).with_name("golden")
CONTRACT = Path(__file__).parents[2] / "docs" / "contract.md"


def section(number: int) -> str:
    return CONTRACT.read_text().partition(f"\n## {number}. ")[2].partition("\n## ")[0]


def members(number: int) -> list[str]:
    """The names in a section's tables, as it writes them."""
    return re.findall(r"^\| `(\w+)` \|", section(number), re.MULTILINE)


# --- the manifest --------------------------------------------------------------------------------


def test_the_manifest_is_what_the_contract_lists() -> None:
    fields = [field.alias or name for name, field in Manifest.model_fields.items()]
    assert members(2) == fields


def test_p1_a_manifest_has_one_spelling() -> None:
    golden = (GOLDEN / "release.json").read_bytes()
    manifest = Manifest.parse(golden)
    assert manifest.canonical() == golden
    assert json.loads(golden)["name"] == manifest.name == "router"


@pytest.mark.parametrize(
    "spoil",
    [
        lambda text: text[:-1],
        lambda text: text + b"\n",
        lambda text: text.replace(b",", b", ", 1),
        lambda text: text.replace(b"{", b'{"aaa":1,', 1),
        lambda text: text.replace(b'"schema":1', b'"schema":2'),
        lambda text: text.replace("é".encode(), b"\\u00e9"),
        lambda text: text.replace(b"4096", b"4096.0"),
    ],
)
def test_p1_any_other_spelling_is_no_manifest(spoil: Callable[[bytes], bytes]) -> None:
    golden = (GOLDEN / "release.json").read_bytes()
    assert spoil(golden) != golden
    with pytest.raises(ValueError, match=r"."):
        Manifest.parse(spoil(golden))


# --- what the running process says ---------------------------------------------------------------

KINDS: dict[str, Callable[[Any], bool]] = {
    "hex64": lambda value: isinstance(value, str) and bool(re.fullmatch("[0-9a-f]{64}", value)),
    "string": lambda value: isinstance(value, str),
    "integer": lambda value: type(value) is int,
    "list of strings": lambda value: isinstance(value, list) and all(type(v) is str for v in value),
    "ACTIVE, REDUCING or HALTED": lambda value: value in {"ACTIVE", "REDUCING", "HALTED"},
    "hex64 or null": lambda value: value is None or KINDS["hex64"](value),
}


def off_contract(status: dict[str, Any]) -> list[str]:
    """The members that a status lacks, or has of another type than the contract says."""
    golden = json.loads((GOLDEN / "status.json").read_text())
    return [k for k, kind in golden.items() if k not in status or not KINDS[kind](status[k])]


def test_the_status_is_what_the_contract_lists() -> None:
    golden = json.loads((GOLDEN / "status.json").read_text())
    apart = {"start", "version", "status", "config"}  # those of commands, and what may be absent
    listed = [name for name in members(3) if name not in apart]
    assert [name for name in golden if name != "version"] == listed
    assert "| `version` | string | as in the manifest |" in section(3)


@pytest.fixture
def serving(tmp_path: Path) -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen([ARTIFACT, "serve", tmp_path], stdin=subprocess.DEVNULL)
    until = time.monotonic() + 10
    while not (tmp_path / "ask").exists() and time.monotonic() < until:
        time.sleep(0.01)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def ask(state: Path) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run([ARTIFACT, "status", state], capture_output=True, timeout=10)


def test_the_script_is_twenty_lines_of_posix_shell() -> None:
    lines = ARTIFACT.read_text().splitlines()
    assert lines[0] == "#!/bin/sh"
    assert len(lines) <= 20
    assert "python" not in ARTIFACT.read_text()


def test_p1_the_status_is_told_by_the_running_process(
    serving: subprocess.Popen[bytes], tmp_path: Path
) -> None:
    said = json.loads(ask(tmp_path).stdout)
    assert off_contract(said) == []
    assert said["pid"] == serving.pid
    fields = Path(f"/proc/{serving.pid}/stat").read_text().rpartition(")")[2].split()
    assert said["start_ticks"] == int(fields[19])
    assert said["release"] == shell_release("1.0")[0].sha256
    open_files = [path.readlink() for path in Path(f"/proc/{serving.pid}/fd").iterdir()]
    assert ARTIFACT in open_files, "what it runs must be visible to the kernel"


def test_p1_nobody_answers_for_a_process_that_ended(
    serving: subprocess.Popen[bytes], tmp_path: Path
) -> None:
    assert ask(tmp_path).returncode == 0
    serving.terminate()
    assert serving.wait(5) == 0, "a clean stop ends with 0"
    answer = ask(tmp_path)
    assert answer.returncode != 0
    assert answer.stdout == b""


# --- the proof that any binary can: it is deployed ------------------------------------------------


class Silent:
    def state(self, state: Enum, hosts: tuple[str, ...]) -> None:
        pass

    def host(self, host: str, text: str, *, good: bool | None) -> None:
        pass


def deploy(inventory_path: Path, release: Release) -> tuple[Report, DeploytoolError | None]:
    inventory = load_inventory(inventory_path)
    hosts = connect_fleet(inventory)
    try:
        with Journal(inventory_path.with_name("journal.sqlite")) as journal:
            journal.begin("plan1", "deploy", inventory.fleet, release.digest, "me@here")
            runner = Runner(
                inventory, release, hosts, "me@here", Silent(), journal, plan_id="plan1"
            )
            report = runner.run()
    finally:
        for host in hosts.values():
            host.close()
    return report, conclude(report, str(inventory_path))


@pytest.mark.sshd
def test_p1_a_shell_script_is_deployed_to_parity(shell_fleet: Path, tmp_path: Path) -> None:
    inventory = load_inventory(shell_fleet)
    for host in connect_fleet(inventory).values():
        Real(host, inventory).reset()
        host.close()
    for version in ("1.0", "2.0"):
        file = tmp_path / f"artifact-{version}.sh"
        file.write_bytes(shell_release(version)[1])
        file.chmod(0o755)
        words = {"name": "router", "version": version, "version_line": None}
        release = describe(tmp_path / "store", file, requires=("sha256sum",), **words)  # type: ignore[arg-type]
        report, error = deploy(shell_fleet, release)
        assert error is None, str(error)
        assert report.round is not None
        assert report.round.parity is Parity.PARITY
        assert [v.verdict for v in report.round.hosts] == [Verdict.MATCH] * 3
        assert not report.already
        for verdict in report.round.hosts:
            root = inventory.root(verdict.host)
            pid = int(Path(f"{root}/state/pid").read_text().split()[0])
            links = {str(path.readlink()) for path in Path(f"/proc/{pid}/fd").iterdir()}
            assert f"{root}/releases/{release.digest}/router" in links
    again, error = deploy(shell_fleet, release)
    assert error is None
    assert again.already, "a fleet that is proven is left alone"
