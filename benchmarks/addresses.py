"""Many hosts on one machine: one ``sshd`` behind many loopback addresses, a release root for each.

A listener of our own hands each connection to an ``sshd -i``: sshd itself listens on 16 addresses
at most. The hosts share a host key, an account and the machine; their roots are made ready by the
script that makes a real host ready, run here.
"""

from __future__ import annotations

import os
import secrets
import selectors
import socket
import subprocess
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import yaml

from deploytool.fleet.descriptors import make_room
from deploytool.fleet.inventory import load_inventory
from deploytool.fleet.prepare import render_script
from deploytool.rehearsal.fleets import files
from deploytool.rehearsal.fleets.folder import FleetFolder
from deploytool.rehearsal.fleets.local import LocalFleet, free_ports, sshd_config
from deploytool.rehearsal.fleets.model import Client, Endpoint, FleetRecord, HostRecord, silent
from deploytool.rehearsal.fleets.ready import account, make_key
from deploytool.rehearsal.fleets.run import find

_PREPARE_S = 60
_PATIENCE_S = 60.0
_BACKLOG = 64


def _address(number: int) -> str:
    return f"127.0.{1 + number // 250}.{1 + number % 250}"


class ManyHosts:
    """So many hosts; ``up`` makes them, ``down`` takes them away with all that they started."""

    def __init__(self, folder: Path, count: int) -> None:
        self._local = LocalFleet(folder)
        self._local.down(silent)
        folder.mkdir(mode=0o700, parents=True)
        self.folder = folder.absolute()
        self.inventory = self.folder / files.INVENTORY
        (port,) = free_ports(1)
        hosts = tuple(
            HostRecord(f"host{n:04d}", _address(n), port, f"{_address(n)}:1") for n in range(count)
        )
        self.record = FleetRecord(
            id=secrets.token_hex(4),
            kind="local",
            phase="rising",
            hosts=hosts,
            market=Endpoint("127.0.0.1", 1),
            client=Client("GATE01", secrets.token_hex(5)),
        )
        self._door: Door | None = None

    def up(self) -> None:
        """Makes keys, inventory and release roots, and lets connections in."""
        make_room()
        FleetFolder(self.folder, "local").save(self.record)  # so that `down` knows what is here
        for name in (files.IDENTITY, "host_key"):
            make_key(self.folder / name)
        public = (self.folder / files.IDENTITY).with_suffix(".pub").read_text()
        (self.folder / "authorized_keys").write_text(public)
        config = self.folder / "sshd_config"
        config.write_text(sshd_config(self.folder, self.record, self.record.hosts[0]))
        key = (self.folder / "host_key.pub").read_text()
        pins = files.known_hosts(self.record, {host.name: (key,) for host in self.record.hosts})
        (self.folder / files.KNOWN_HOSTS).write_text(pins)
        self._describe()
        self._prepare()
        self._door = Door(self.record.hosts, config)

    def _describe(self) -> None:
        root = f"{self.folder}/hosts/{{host}}/root"
        user = account()
        said = yaml.safe_load(files.inventory(self.record, root, user, user, "process"))
        router, state = "{current}/router", "{state}"
        said["service"] = {
            "name": "router",
            "user": user,
            "supervisor": "process",
            "start": [router, "serve", state],
            "version": [router, "--version"],
            "status": [router, "status", state],
            "ready_timeout_s": _PATIENCE_S,
            "soak_s": 0,
        }
        for key in ("config_files", "signers", "lease_s"):
            del said[key]
        said["waves"] = ["rest"]
        said["ssh"] |= {"connect_timeout_s": _PATIENCE_S, "command_timeout_s": 2 * _PATIENCE_S}
        for host in said["hosts"].values():
            del host["vars"]
        self.inventory.write_text(yaml.safe_dump(said, sort_keys=False))

    def _prepare(self) -> None:
        inventory = load_inventory(self.inventory)

        def prepare(host: str) -> None:
            script = render_script(inventory, host, account(), None, secrets.token_hex(16))
            told = subprocess.run(
                ["sh", "-s"],
                input=script.encode(),
                capture_output=True,
                timeout=_PREPARE_S,
                check=False,
                env={"PATH": os.environ["PATH"], "HOME": str(self.folder)},
            )
            if told.returncode != 0 or b" end ok" not in told.stdout:
                raise RuntimeError(f"{host}: {told.stdout!r} {told.stderr!r}")

        with ThreadPoolExecutor(os.cpu_count()) as pool:
            list(pool.map(prepare, inventory.names))

    def down(self) -> None:
        """Ends all that has to do with a host's folder, and removes the folder."""
        if self._door is not None:
            self._door.close()
        self._local.down(silent)


class Door:
    """Listens on every host's address, in a thread, and hands what comes to an ``sshd``."""

    def __init__(self, hosts: tuple[HostRecord, ...], config: Path) -> None:
        self._sshd = find("sshd", "openssh-server")
        self._config = config
        if os.geteuid() == 0:
            Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)
        self._waiting = selectors.DefaultSelector()
        for host in hosts:
            listener = socket.create_server((host.address, host.port), backlog=_BACKLOG)
            listener.settimeout(0)
            self._waiting.register(listener, selectors.EVENT_READ)
        self._closed = False
        self._thread = threading.Thread(target=self._serve, name="door", daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        argv = [self._sshd, "-i", "-f", str(self._config), "-E", f"{self._config}.log"]
        running: list[subprocess.Popen[bytes]] = []
        while not self._closed:
            for key, _ in self._waiting.select(0.5):
                with suppress(BlockingIOError):
                    connection, _ = key.fileobj.accept()  # type: ignore[union-attr]
                    with connection:
                        connection.settimeout(None)
                        running.append(subprocess.Popen(argv, stdin=connection, stdout=connection))
            running = [one for one in running if one.poll() is None]

    def close(self) -> None:
        """Lets nobody in any more."""
        self._closed = True
        self._thread.join()
        for key in list(self._waiting.get_map().values()):
            key.fileobj.close()  # type: ignore[union-attr]
        self._waiting.close()
