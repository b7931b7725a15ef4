"""Fleets of simulated hosts, ready to deploy to, as an inventory describes them."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass

from deploytool.fleet.helper import HostFiles, host_files
from deploytool.fleet.inventory import parse_inventory
from deploytool.fleet.model import Inventory
from deploytool.release.model import Manifest
from deploytool.simulation.helper import Helper
from deploytool.simulation.host import SimulatedHost
from deploytool.simulation.machine import Machine
from deploytool.simulation.service import SimulatedService, Unit

OPERATOR = "anna"
"""Who may sign for a simulated fleet."""
_KEY = "AAAAC3NzaC1lZDI1NTE5AAAAIB" + "A" * 42
SIGNERS = f'{OPERATOR} namespaces="parity.deploytool" ssh-ed25519 {_KEY}\n'
_TEXT = """
fleet: simulated
throwaway: true
expect: {count}
release_root: /opt/router
service:
  name: router
  supervisor: {supervisor}
  start: ["{{current}}/router", "serve"]
  version: ["{{current}}/router", "--version"]
  status: ["{{current}}/router", "status"]
  halt: ["{{current}}/router", "halt"]
{resume}  flags:
    observe: ["{{current}}/router", "flag", "show"]
    prepare: ["{{current}}/router", "flag", "prepare", "{{flag}}"]
    commit: ["{{current}}/router", "flag", "commit", "{{flag}}"]
    settle: ["{{current}}/router", "flag", "settle", "{{flag}}"]
    disarm: ["{{current}}/router", "flag", "disarm", "{{flag}}"]
  listen: ["0.0.0.0:7001"]
  soak_s: 0
  deadman_s: 60
config_files: ["{{root}}/etc/router.json"]
signers: signers
ssh: {{known_hosts: known_hosts}}
waves: {waves}
hosts:
{hosts}
"""


_RESUME = '  resume: ["{current}/router", "resume"]\n'


def inventory_text(count: int = 8, supervisor: str = "systemd", *, resumes: bool = False) -> str:
    """The inventory as it is written; ``resumes``: its artifact has a command that ends a halt."""
    hosts = "\n".join(f"  router{n}: {{address: 192.0.2.{n}}}" for n in range(1, count + 1))
    waves = "[1, 3, rest]" if count > 4 else "[rest]"
    return _TEXT.format(
        count=count,
        supervisor=supervisor,
        resume=_RESUME if resumes else "",
        waves=waves,
        hosts=hosts,
    )


def inventory(count: int = 8, supervisor: str = "systemd") -> Inventory:
    """The inventory of a simulated fleet: a canary, then three, then the rest."""
    text = inventory_text(count, supervisor)
    return parse_inventory(text, "simulated.yaml").with_signers("signers", SIGNERS)


@dataclass(frozen=True)
class Rendered:
    """What preparation puts on the hosts: rendered once, used for many fleets."""

    inventory: Inventory
    files: Mapping[str, HostFiles]

    @staticmethod
    def of(inventory: Inventory) -> Rendered:
        """Renders for every declared host."""
        return Rendered(inventory, {n: host_files(inventory, n, "") for n in inventory.names})


def bare(name: str, rendered: Rendered) -> SimulatedHost:
    """A host that ``host prepare`` has been to, and no release."""
    inventory, files = rendered.inventory, rendered.files[name]
    machine = Machine(hashlib.sha256(name.encode()).hexdigest()[:32])
    root = inventory.root(name)
    for mark in ("mutex", "probe.lock"):
        machine.disk.put(f"{root}/state/{mark}", b"", 0o600)
    machine.disk.put(files.helper_path, files.helper.encode(), 0o755)
    unit = None
    if files.unit is not None and files.unit_path is not None:
        unit = Unit(files.unit_path, files.unit.encode())
    helper = Helper(machine, SimulatedService.of(machine, inventory, name, unit), files.helper_path)
    helper.fleet, helper.name = inventory.fleet, name
    helper.configs = tuple(inventory.expand(path, name) for path in inventory.config_files)
    if files.signers is not None and files.signers_path is not None:
        helper.signers = files.signers_path
        machine.disk.put(files.signers_path, files.signers.encode())
    helper.commands = inventory.service.flags is not None
    for path in helper.configs:
        machine.disk.put(path, b"{}\n")
    return SimulatedHost(name, helper)


def running(name: str, rendered: Rendered, manifest: Manifest, content: bytes) -> SimulatedHost:
    """A host that runs a release, as a deployment that was proven has left it."""
    host = bare(name, rendered)
    helper = host.helper
    folder = f"{helper.service.root}/releases/{manifest.sha256}"
    disk = helper.machine.disk
    disk.put(f"{folder}/release.json", manifest.canonical(), 0o444)
    disk.put(f"{folder}/{manifest.name}", content, 0o555)
    disk.link(f"{helper.service.root}/current", f"releases/{manifest.sha256}")
    helper.service.start()
    main = helper.service.main
    assert main is not None  # noqa: S101 it was started in the line before
    mark = {"release": manifest.sha256, "pid": main.pid, "start": main.start}
    mark |= {"boot": helper.machine.boot_id, "token": 1, "since": 1}
    text = "".join(f"{key} {value}\n" for key, value in mark.items())
    disk.put(f"{helper.service.root}/state/verified", text.encode())
    disk.put(f"{helper.service.root}/state/token", b"1\n")
    return host


def fleet_of(rendered: Rendered, before: tuple[Manifest, bytes] | None) -> dict[str, SimulatedHost]:
    """A whole fleet, on one release or on none."""
    names = rendered.inventory.names
    if before is None:
        return {name: bare(name, rendered) for name in names}
    return {name: running(name, rendered, *before) for name in names}
