"""Fleets of simulated hosts, ready to deploy to, as an inventory describes them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from deploytool.agent import marks
from deploytool.agent.model import Verified
from deploytool.fleet.inventory import parse_inventory
from deploytool.fleet.model import Inventory
from deploytool.fleet.prepared import HostFiles, host_files
from deploytool.release.model import Manifest
from deploytool.simulation.flags import BoardCommands
from deploytool.simulation.host import SimulatedHost
from deploytool.simulation.members import listed
from deploytool.simulation.memory.disk import sha256
from deploytool.simulation.memory.host import MemoryHost

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
    agents: Mapping[str, bytes]
    members: bytes
    """The list that each of them keeps."""

    @staticmethod
    def of(inventory: Inventory) -> Rendered:
        """Renders for every declared host."""
        files = {name: host_files(inventory, name, "") for name in inventory.names}
        agents = {name: item.agent for name, item in files.items()}
        return Rendered(inventory, files, agents, listed(inventory).text.encode())


def bare(name: str, rendered: Rendered) -> SimulatedHost:
    """A host that ``host prepare`` has been to, and no release."""
    inventory, files = rendered.inventory, rendered.files[name]
    prepared = MemoryHost.prepared(
        described=files.settings,
        agent=rendered.agents[name],
        number=inventory.names.index(name) + 1,
    )
    computer, service = prepared.computer, prepared.service
    if files.unit is not None and files.unit_path is not None:
        computer.put(files.unit_path, files.unit.encode())
    if files.signers is not None and files.signers_path is not None:
        computer.put(files.signers_path, files.signers.encode())
    if files.members_path is not None:
        computer.put(files.members_path, rendered.members)
    service.flags_of = lambda program, release: BoardCommands.of(
        service, inventory, name, program, release
    )
    computer.sync()
    return SimulatedHost(name, prepared)


def running(name: str, rendered: Rendered, manifest: Manifest, content: bytes) -> SimulatedHost:
    """A host that runs a release, as a deployment that was proven has left it."""
    host = bare(name, rendered)
    computer, service = host.computer, host.service
    folder = f"{service.root}/releases/{manifest.sha256}"
    computer.put(f"{folder}/release.json", manifest.canonical(), 0o444)
    computer.put(f"{folder}/{manifest.name}", content, 0o555)
    computer.link(f"{service.root}/current", f"releases/{manifest.sha256}")
    service.start()
    main = service.main
    assert main is not None  # noqa: S101 it was started in the line before
    verified = Verified(
        release=manifest.sha256,
        pid=main.pid,
        start=main.start,
        boot=computer.boot_id,
        token=1,
        since=1,
    )
    host.put_mark("verified", marks.text_of(verified))
    note_start(host)
    host.put_mark("token", "1\n")
    computer.sync()
    return host


def note_start(host: SimulatedHost) -> None:
    """Notes the start of what runs there, as the agent does for each start that it makes."""
    computer, service = host.computer, host.service
    main = service.main
    assert main is not None  # noqa: S101 a bug of the caller
    lines = [f"{computer.boot_id} {main.pid} {main.start}"]
    for path in service.settings.configs:
        held = computer.read(path)
        lines.append(f"{'missing' if held is None else sha256(held)} {path}")
    host.put_mark("started", "".join(f"{line}\n" for line in lines))


def fleet_of(rendered: Rendered, before: tuple[Manifest, bytes] | None) -> dict[str, SimulatedHost]:
    """A whole fleet, on one release or on none."""
    names = rendered.inventory.names
    if before is None:
        return {name: bare(name, rendered) for name in names}
    return {name: running(name, rendered, *before) for name in names}
