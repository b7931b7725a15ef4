"""The container fleet: hosts with systemd, sshd and an address each. Needs podman or Docker.

They are bare, as a machine from a provider is: root lets the fleet's admin key in, and nothing
else was prepared. Host keys are read past SSH, through the engine, before anybody connects.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from importlib import resources
from pathlib import Path

from deploytool.errors import EnvironmentProblem
from deploytool.rehearsal.fleets import files, processes
from deploytool.rehearsal.fleets.containerplan import check_room, on_subnet, plan
from deploytool.rehearsal.fleets.engine import Engine, find_engine, named_engine
from deploytool.rehearsal.fleets.folder import FleetFolder
from deploytool.rehearsal.fleets.image import ensure_image
from deploytool.rehearsal.fleets.model import FleetRecord, HostRecord, HostStatus, Kind, Progress
from deploytool.rehearsal.fleets.ready import make_key, make_signers, prepare, wait_for_ssh
from deploytool.rehearsal.fleets.run import Outcome, for_each
from deploytool.rehearsal.fleets.throwaway import FleetStatus

RELEASE_ROOT = "/opt/router"
_SUBNETS_TRIED = 10
_SSH_S = 60.0
_GRACE_S = 10.0
_PATIENCE_S = 10.0
_END_S = 60.0
_POLL_S = 0.05


class ContainerFleet:
    """Containers that are hosts; what is not a container lies in ``folder``."""

    kind: Kind = "container"

    def __init__(self, folder: Path) -> None:
        self._folder = FleetFolder(folder, self.kind)

    @property
    def folder(self) -> Path:
        """Where keys, inventory and record lie."""
        return self._folder.path

    @property
    def inventory(self) -> Path:
        """The inventory, once ``up`` has finished."""
        return self.folder / files.INVENTORY

    def record(self) -> FleetRecord | None:
        """What was written down of it."""
        return self._folder.load()

    def up(self, count: int, progress: Progress) -> Path:
        """Starts ``count`` bare hosts and readies them.

        Raises:
            InputError: a fleet is up already, or the folder won't do.
            EnvironmentProblem: there is no engine, or it does not do what it should.
        """
        engine = find_engine()
        check_room(count)
        with self._folder.locked(create=True):
            self._folder.claim(count)
            record = plan(count, engine)
            self._folder.save(record)
            image = ensure_image(engine, self.folder / "image", progress)
            record = self._make_network(engine, record)
            progress(f"starting {count} containers on {record.subnet}")
            make_key(self.folder / files.ADMIN_IDENTITY)
            make_key(self.folder / files.IDENTITY)
            keys = for_each(record.hosts, lambda host: self._start(engine, record, host, image))
            pinned = {host.name: key for host, key in zip(record.hosts, keys, strict=True)}
            self._folder.write(files.KNOWN_HOSTS, files.known_hosts(record, pinned))
            text = files.inventory(record, RELEASE_ROOT, "deploy", "router", "systemd")
            self._folder.write(files.SIGNERS, make_signers(self.folder))
            self._folder.write(files.INVENTORY, text)
            admin = self.folder / files.ADMIN_IDENTITY
            public = (self.folder / files.IDENTITY).with_suffix(".pub")
            prepare(self.inventory, admin, "root", public, progress)
            self._folder.save(replace(record, phase="up"))
        return self.inventory

    def _make_network(self, engine: Engine, record: FleetRecord) -> FleetRecord:
        """Finds a subnet that nobody has; each try is written down before it is made."""
        for _ in range(_SUBNETS_TRIED):
            record = on_subnet(record)
            self._folder.save(record)
            if engine.make_network(record.network or "", record.subnet or "", record.id):
                return record
        raise EnvironmentProblem(
            f"{engine.name} made no network in {_SUBNETS_TRIED} tries, last {record.subnet}.",
            "The fleet is not up.",
            f"See why: {engine.name} network create --subnet {record.subnet} trial",
        )

    def _start(
        self, engine: Engine, record: FleetRecord, host: HostRecord, image: str
    ) -> tuple[str, ...]:
        """Starts one host and gives its public host keys, read through the engine."""
        name = host.container or ""
        engine.start(record.id, name, host.name, record.network or "", host.address, image)
        public = (self.folder / files.ADMIN_IDENTITY).with_suffix(".pub").read_text().strip()
        script = resources.files("deploytool.rehearsal.fleets").joinpath("provision.sh")
        argv = ("sh", "-c", script.read_text(encoding="utf-8"), "sh", public, RELEASE_ROOT)
        told = engine.inside(name, argv, files.router_config(record), _SSH_S)
        if told.code != 0:
            raise EnvironmentProblem(
                f"{host.name} did not come up: {told.err.strip() or told.out.strip()}",
                "The fleet is not up. With many containers on this machine the cause may be a "
                "number that they share: see sysctl fs.inotify.max_user_instances.",
                f"{self._folder.command('down')} && {self._folder.command('up')}",
            )
        wait_for_ssh(host.name, host.address, host.port, _SSH_S)
        return tuple(told.out.splitlines())

    def down(self, progress: Progress) -> tuple[str, ...]:
        """Removes every container and network that carries the fleet's label, and the folder."""
        with self._folder.locked(create=False) as there:
            if not there:
                return ()
            record = self.record()
            removed: tuple[str, ...] = ()
            if record is not None and record.engine is not None:
                removed = self._remove(named_engine(record.engine), record, progress)
            self._folder.remove()
        return (*removed, str(self.folder))

    def _remove(self, engine: Engine, record: FleetRecord, progress: Progress) -> tuple[str, ...]:
        """Ends what a killed ``up`` left at work first, so that nothing comes after the look."""
        marks = (record.id, f"{self.folder}/")

        def works(name: str) -> processes.Selector:
            return lambda p: p.name == name and any(mark in a for a in p.argv for mark in marks)

        processes.end_all(works("mmdebstrap"), _GRACE_S, _END_S)
        # Half a container is harder to remove than a whole one: let the engine finish its step.
        processes.end_all(works(engine.name), _GRACE_S, _END_S, patience_s=_PATIENCE_S)
        containers = tuple(engine.states(record.id))
        networks = engine.networks(record.id)
        engine.remove(record.id, containers)
        for network in networks:
            engine.remove_network(network)
        progress(f"removed {len(containers)} containers and {len(networks)} networks")
        return (*containers, *networks)

    def status(self) -> FleetStatus:
        """Asks the engine about each host."""
        record = self.record()
        if record is None or record.engine is None:
            return FleetStatus(self.kind, self.folder, "absent")
        states = named_engine(record.engine).states(record.id)
        hosts = tuple(
            HostStatus(
                host.name, states.get(host.container or "", "missing"), host.address, host.port
            )
            for host in record.hosts
        )
        whole = record.phase == "up" and all(host.state == "running" for host in hosts)
        return FleetStatus(self.kind, self.folder, "up" if whole else "incomplete", hosts)

    def pause(self, host: str) -> None:
        """Freezes a host: it hangs, and its connections stay open."""
        self._do("pause", host)

    def unpause(self, host: str) -> None:
        """Lets a frozen host go on."""
        self._do("unpause", host)

    def kill(self, host: str) -> None:
        """Ends a host at once, as a power cut does."""
        self._do("kill", host)

    def start(self, host: str) -> None:
        """Boots a host that was killed, and waits for its SSH server."""
        self._do("start", host)
        record, found = self._host(host)
        del record
        wait_for_ssh(found.name, found.address, found.port, _SSH_S)

    def reset(self, host: str) -> None:
        """Ends a host at once and boots it again; the kernel below it goes on, and its cache."""
        self._do("kill", host)
        self._do("start", host)

    def await_boot(self, host: str) -> None:
        """Waits for the SSH server of a host that was reset."""
        _record, found = self._host(host)
        wait_for_ssh(found.name, found.address, found.port, _SSH_S)

    @contextmanager
    def kill_when(self, host: str, condition: str) -> Iterator[None]:
        """Within the block the host is ended as soon as a shell ``condition`` holds in it."""
        over = threading.Event()

        def watch() -> None:
            while not over.wait(_POLL_S):
                if self.inside(host, ("sh", "-c", condition)).code == 0:
                    self.kill(host)
                    return

        watching = threading.Thread(target=watch, daemon=True)
        watching.start()
        try:
            yield
        finally:
            over.set()
            watching.join(_END_S)

    @contextmanager
    def cut_off(self, host: str) -> Iterator[None]:
        """Pulls a host's network cable; it is plugged in again when the block ends."""
        self.disconnect(host)
        try:
            yield
        finally:
            self.reconnect(host)

    def disconnect(self, host: str) -> None:
        """Pulls a host's network cable; it goes on running.

        The bridge goes with the last host on it, and the market's address with the bridge.
        """
        record, found = self._host(host)
        named_engine(record.engine or "").unplug(found.container or "", record.network or "")

    def reconnect(self, host: str) -> None:
        """Plugs a host in again, at the same address."""
        record, found = self._host(host)
        engine = named_engine(record.engine or "")
        engine.plug(found.container or "", record.network or "", found.address)

    def inside(
        self, host: str, argv: Sequence[str], stdin: str = "", timeout_s: float = 20.0
    ) -> Outcome:
        """Runs a program as root on a host, past SSH."""
        record, found = self._host(host)
        engine = named_engine(record.engine or "")
        return engine.inside(found.container or "", argv, stdin, timeout_s)

    def _do(self, verb: str, host: str) -> None:
        record, found = self._host(host)
        named_engine(record.engine or "").do(verb, found.container or "")

    def _host(self, name: str) -> tuple[FleetRecord, HostRecord]:
        record = self.record()
        for host in record.hosts if record else ():
            if record is not None and host.name == name:
                return record, host
        raise KeyError(name)
