"""Runs testinfra specs on every declared host, the user's or our own: a second pair of eyes.

The specs run in a process of their own, over OpenSSH with the fleet's pinned keys. A host for
which no test ran is a failure: a run that skipped everything must not look like one that passed.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import xml.etree.ElementTree as ET
from dataclasses import dataclass
from pathlib import Path

from deploytool.errors import EnvironmentProblem, InputError
from deploytool.fleet.model import Inventory
from deploytool.fleet.openssh import settings
from deploytool.fleet.paths import PlainNames
from deploytool.fleet.sshconfig import Route, route

_DEADLINE_S = 900
OWN = Path(__file__).parent / "specs"
"""What is asked of hosts where the user names no specs."""


@dataclass(frozen=True)
class SpecResult:
    """What the specs came to on one host."""

    host: str
    passed: int
    lines: tuple[str, ...]

    @property
    def good(self) -> bool:
        """Something ran there, and nothing was amiss."""
        return self.passed > 0 and not self.lines


def ssh_config(inventory: Inventory, routes: dict[str, Route], plain: PlainNames) -> str:
    """An OpenSSH configuration that reaches each host by its name, with pinned keys only.

    And by what it is called while specs run. Each jump host has a block of its own, for the key,
    the agent and the pinned name are its own too. It is good for as long as ``plain`` lives.
    """
    blocks = []
    for name, way in routes.items():
        before: str | None = None
        for number, hop in enumerate(way.hops):
            last = hop is way
            names = f"{name} {_alias(name)}" if last else f"{_alias(name)}via{number + 1}"
            blocks.append(_block(names, hop, before, plain))
            before = names
    strict = settings(plain.of(inventory.ssh.known_hosts), inventory.ssh.connect_timeout_s)
    # testinfra keeps a connection for many commands, and says so on the command line.
    kept = (f"  {key} {value}" for key, value in strict if not key.startswith("Control"))
    return "\n".join(["Host *", *kept, *blocks]) + "\n"


def _block(names: str, hop: Route, before: str | None, plain: PlainNames) -> str:
    """One machine, reached through the one ``before`` it."""
    command = (hop.proxy_command or "").replace("%", "%%")  # its tokens are filled in already
    lines = [
        f"Host {names}",
        f"  HostName {hop.hostname}",
        f"  Port {hop.port}",
        f"  User {hop.user}",
        # Under an alias ssh doesn't look for the bare name, as it does beside a port.
        *([] if hop.other_name else [f"  HostKeyAlias {hop.key_name}"]),
        f"  AddressFamily {hop.family}",
        *([f"  BindAddress {hop.bind_address}"] if hop.bind_address else []),
        *(f"  {option}" for file in hop.identity_files for option in plain.identity(file)),
        *(f"  CertificateFile {plain.of(file)}" for file in hop.certificate_files),
        *(["  IdentitiesOnly yes"] if hop.identities_only else []),
        f"  IdentityAgent {plain.of(hop.agent) if hop.agent else 'none'}",
        *([f"  ProxyCommand {command}"] if command else []),
        *([f"  ProxyJump {before}"] if before else []),
    ]
    return "\n".join(lines)


def _alias(host: str) -> str:
    """What a host is called while specs run: no host's name has such an end.

    Pytest puts a hyphen behind it, and else ``web`` with a parameter were told as ``web-2``.
    """
    return f"{host}_"


def run_specs(inventory: Inventory, folder: Path) -> tuple[SpecResult, ...]:
    """One result for each declared host, in name order.

    Raises:
        InputError: there are no specs, or pytest could not collect them.
        EnvironmentProblem: they did not end in time.
    """
    if not folder.is_dir() or not any(folder.rglob("test_*.py")):
        raise InputError(
            f"There are no specs in {folder}: no test_*.py.",
            "Nothing was verified.",
            "See https://testinfra.readthedocs.io for how to write one.",
        )
    routes = {name: route(inventory, name) for name in inventory.names}
    plain = PlainNames()
    with tempfile.TemporaryDirectory(prefix="deploytool-specs-") as scratch:
        config, report = Path(scratch) / "ssh_config", Path(scratch) / "report.xml"
        config.write_text(ssh_config(inventory, routes, plain), encoding="utf-8")
        hosts = ",".join(f"ssh://{_alias(name)}" for name in inventory.names)
        command = [sys.executable, "-m", "pytest", str(folder), f"--hosts={hosts}"]
        command += [
            f"--ssh-config={config}",
            f"--junitxml={report}",
            "-q",
            "-p",
            "no:cacheprovider",
        ]
        command += ["-c", os.devnull, f"--rootdir={folder}", "-o", "junit_family=xunit2"]
        try:
            done = subprocess.run(
                command,
                capture_output=True,
                text=True,
                timeout=_DEADLINE_S,
                check=False,
                env={**os.environ, "DEPLOYTOOL_SPEC": _facts(inventory)},
            )
        except subprocess.TimeoutExpired as error:
            raise EnvironmentProblem(
                f"The specs in {folder} did not end within {_DEADLINE_S} s.",
                "Nothing was verified.",
                f"Try one host by hand: {' '.join(command[:4])} "
                f"--hosts=ssh://{inventory.hosts[inventory.names[0]].address}",
            ) from error
        if done.returncode not in {0, 1} or not report.is_file():
            raise InputError(
                f"The specs in {folder} can't be run.",
                "Nothing was verified.",
                "Mend what pytest names.",
                tuple(done.stdout.strip().splitlines()[-15:]),
            )
        return read_results(inventory, ET.parse(report).getroot())  # noqa: S314 pytest wrote it just now


def _facts(inventory: Inventory) -> str:
    """What our own specs have to know of the fleet, as JSON."""
    service = inventory.service
    return json.dumps(
        {
            "roots": {_alias(name): inventory.root(name) for name in inventory.names},
            "service": service.name,
            "supervisor": service.supervisor,
        }
    )


def read_results(inventory: Inventory, root: ET.Element) -> tuple[SpecResult, ...]:
    """What a JUnit report says of each declared host, in name order."""
    passed = dict.fromkeys(inventory.names, 0)
    lines: dict[str, list[str]] = {name: [] for name in inventory.names}
    everywhere: list[str] = []
    for case in root.iter("testcase"):
        name = case.get("name", "")
        told = ((h, f"[ssh://{_alias(h)}") for h in inventory.names)
        host = next((h for h, start in told if f"{start}]" in name or f"{start}-" in name), None)
        bad = [child for child in case if child.tag in {"failure", "error", "skipped"}]
        text = f"{name}: {(bad[0].get('message') or bad[0].tag).splitlines()[0]}" if bad else ""
        if host is None:
            # A spec that never asked for a host says nothing about any; its failure is everybody's.
            everywhere += [text] if bad else []
        elif bad:
            lines[host].append(text)
        else:
            passed[host] += 1
    return tuple(
        SpecResult(
            name,
            passed[name],
            (*lines[name], *everywhere) or (() if passed[name] else ("no spec ran on this host",)),
        )
        for name in inventory.names
    )
