"""The Vagrant fleet: virtual machines with a kernel, a disk, a clock and a power switch each.

Vagrant brings them up bare, as a machine from a provider is; what makes a container ready makes
them ready. Host keys are read the way Vagrant comes in, on a network that only this machine and
the fleet are on, before anything of ours connects; from then on they are pinned.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Mapping
from dataclasses import replace
from importlib import resources
from pathlib import Path

from deploytool.errors import EnvironmentProblem
from deploytool.rehearsal.fleets import files, hypervisor, kvm, pace, vagrantneeds
from deploytool.rehearsal.fleets.box import Box, ensure_box
from deploytool.rehearsal.fleets.model import FleetRecord, HostStatus, Progress
from deploytool.rehearsal.fleets.ready import make_key, make_signers, prepare
from deploytool.rehearsal.fleets.run import for_each
from deploytool.rehearsal.fleets.throwaway import FleetStatus
from deploytool.rehearsal.fleets.vagrantcmd import (
    BOOT_S,
    SETTINGS,
    Vagrant,
    VagrantLogin,
    known_machines,
)
from deploytool.rehearsal.fleets.vagrantdown import take_away
from deploytool.rehearsal.fleets.vagrantplan import addressed, plan
from deploytool.rehearsal.fleets.vagrantpower import WORK_S, VirtualMachines, by_way, measure

RELEASE_ROOT = "/opt/router"
_MEMORY_MIB = 192
_DOWNLOADED_MEMORY_MIB = 512
_PROVISION_S = 300.0

# What a person wants to hear of a boot; Vagrant says much more.
_TOLD = (
    *("Uploading base box", "Starting domain", "Booting VM"),
    *("Waiting for machine to boot", "Machine booted"),
)


class VagrantFleet(VirtualMachines):
    """Virtual machines that are hosts; what Vagrant keeps of them lies in ``folder``."""

    # --- up ---------------------------------------------------------------------------------------

    def up(self, count: int, progress: Progress) -> Path:
        """Starts ``count`` bare machines, measures how slow they are, and readies them.

        What it needs of this machine is looked for before anything is begun or written down.

        Raises:
            InputError: a fleet is up already, or the folder won't do.
            EnvironmentProblem: Vagrant or what it needs is missing or fails.
        """
        provider = os.environ.get("VAGRANT_DEFAULT_PROVIDER", "libvirt")
        downloaded = os.environ.get("DEPLOYTOOL_BOX") or None
        vagrantneeds.require(provider, downloaded)
        vagrant = Vagrant(self.folder, self._id, provider)
        with self._folder.locked(create=True):
            self._folder.claim(count)
            if provider == "libvirt":
                self._refuse_leftovers()
            network = self._prefix.removesuffix("-")
            record = plan(self._id, network, count, provider)
            self._folder.save(record)
            settings, box = self._settings(record, provider, downloaded, progress)
            self._folder.write(SETTINGS, json.dumps(settings, indent=2) + "\n")
            if provider == "libvirt":  # after the settings: `down` goes by them
                hypervisor.make_pool(self._prefix)
            vagrant.validate()
            if box is not None:
                vagrant.add_box(str(settings["box"]), box.file, provider)
            self._bring_up(vagrant, count, progress)
            ways = vagrant.ways()
            record = addressed(record, ways)
            self._folder.save(record)
            make_key(self.folder / files.ADMIN_IDENTITY)
            make_key(self.folder / files.IDENTITY)
            record = self._make_ready(ways, record, progress)
            self._folder.save(replace(record, phase="up"))
        return self.inventory

    def _settings(
        self, record: FleetRecord, provider: str, downloaded: str | None, progress: Progress
    ) -> tuple[dict[str, str | int], Box | None]:
        """What the Vagrantfile is told, and the box of our own that it names, if it does.

        Libvirt is made ready for it on the way.
        """
        settings: dict[str, str | int] = {
            "machines": len(record.hosts),
            "prefix": self._prefix,
            "boot_timeout_s": int(BOOT_S),
            "network": record.network or "",
            "subnet": record.subnet or "",
            "memory_mib": _DOWNLOADED_MEMORY_MIB,
        }
        if provider != "libvirt":
            return settings | {"box": downloaded or "debian/bookworm64"}, None
        box = None if downloaded else ensure_box(progress, self._id)
        works = kvm.start_libvirt(self.folder, box.kernel if box else None)
        how = "hardware virtualization" if works else "emulation, without hardware virtualization"
        progress(f"libvirt with {how}")
        self._refuse_leftovers()
        settings |= {"driver": "kvm" if works else "qemu", "pool": record.network or ""}
        if box is None:
            return settings | {"box": downloaded or ""}, None
        kernel, initrd = str(box.kernel), str(box.initrd)
        settings |= {"kernel": kernel, "initrd": initrd, "memory_mib": _MEMORY_MIB}
        return settings | {"box": self._prefix + box.name}, box

    def _refuse_leftovers(self) -> None:
        look = hypervisor.left if hypervisor.answers() else hypervisor.left_disks
        if found := look(self._prefix):
            raise EnvironmentProblem(
                f"An earlier fleet of this folder left {', '.join(found)}.",
                "No machine was started.",
                f"{self._folder.command('down')} && {self._folder.command('up')}",
            )

    def _bring_up(self, vagrant: Vagrant, count: int, progress: Progress) -> None:
        progress(f"starting {count} machines")
        began = time.monotonic()

        def heard(machine: str, text: str) -> None:
            if text.startswith(_TOLD):
                seconds = time.monotonic() - began
                if text.startswith("Machine booted"):
                    self._booted_s[machine] = seconds
                progress(f"{seconds:>5.0f} s  {machine}: {text.rstrip('.!')}")

        vagrant.up(heard)

    def _make_ready(
        self, ways: Mapping[str, VagrantLogin], record: FleetRecord, progress: Progress
    ) -> FleetRecord:
        figures = measure(
            record.hosts,
            self._booted_s,
            lambda host, argv: by_way(ways[host.name], argv, "", WORK_S),
        )
        for line in map(str, figures):
            progress(line)
        record = replace(record, factor=pace.factor(figures))
        progress(f"deadlines are stretched by {record.factor:g}")
        progress("letting the admin key in, reading the host keys")
        keys = for_each(record.hosts, lambda host: self._provision(record, ways[host.name]))
        pinned = {host.name: key for host, key in zip(record.hosts, keys, strict=True)}
        self._folder.write(files.KNOWN_HOSTS, files.known_hosts(record, pinned))
        text = files.inventory(record, RELEASE_ROOT, "deploy", "router", "systemd")
        self._folder.write(files.SIGNERS, make_signers(self.folder))
        self._folder.write(files.INVENTORY, text)
        admin = self.folder / files.ADMIN_IDENTITY
        public = (self.folder / files.IDENTITY).with_suffix(".pub")
        prepare(self.inventory, admin, "root", public, progress)
        return record

    def _provision(self, record: FleetRecord, way: VagrantLogin) -> tuple[str, ...]:
        """Readies one machine for its admin key, by Vagrant's way in; gives its host keys."""
        script = resources.files("deploytool.rehearsal.fleets").joinpath("provision.sh")
        public = (self.folder / files.ADMIN_IDENTITY).with_suffix(".pub").read_text().strip()
        argv = ("sudo", "-n", "sh", "-c", script.read_text(encoding="utf-8"), "sh", public)
        config = files.router_config(record)
        told = by_way(way, (*argv, RELEASE_ROOT), config, _PROVISION_S)
        if told.code != 0:
            raise EnvironmentProblem(
                f"{way.address} could not be provisioned: {told.err.strip() or told.out.strip()}",
                "The fleet is not up.",
                f"{self._folder.command('down')} && {self._folder.command('up')}",
            )
        return tuple(line for line in told.out.splitlines() if line)

    # --- down, status -----------------------------------------------------------------------------

    def down(self, progress: Progress) -> tuple[str, ...]:
        """Removes all machines of the fleet and what they needed, and its folder."""
        return take_away(self._folder, self._id, self._prefix, progress)

    def status(self) -> FleetStatus:
        """Asks Vagrant about each machine."""
        record = self.record()
        if record is None:
            return FleetStatus(self.kind, self.folder, "absent")
        vagrant = Vagrant(self.folder, record.id, record.engine or "libvirt")
        states = vagrant.states() if known_machines(self.folder) else {}
        hosts = tuple(
            HostStatus(host.name, states.get(host.name, "missing"), host.address, host.port)
            for host in record.hosts
        )
        whole = record.phase == "up" and all(host.state == "running" for host in hosts)
        return FleetStatus(self.kind, self.folder, "up" if whole else "incomplete", hosts)
