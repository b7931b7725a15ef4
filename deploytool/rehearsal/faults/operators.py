"""The operators of a rehearsal: the same fleet, reached straight or through relays."""

from __future__ import annotations

import shutil
from pathlib import Path

import yaml

from deploytool.fleet.inventory import load_inventory
from deploytool.rehearsal.faults.deployer import Operator
from deploytool.rehearsal.faults.relay import Relay
from deploytool.rehearsal.fleets import files
from deploytool.rehearsal.fleets.model import FleetRecord
from deploytool.rehearsal.fleets.throwaway import Throwaway

_SOAK_S = 0.5
_PATIENT_SOAK_S = 3.0
_CONNECT_S = 4
_COMMAND_S = 12
_TRANSFER_S = 15


class Operators:
    """Inventories with short deadlines, and a folder for everybody who deploys by them."""

    def __init__(self, fleet: Throwaway, store: Path) -> None:
        self._fleet = fleet
        self._folder = fleet.folder / "operators"
        self._store = store
        record = fleet.record()
        self._slow = record.factor if record else 1.0
        hosts = record.hosts if record else ()
        self.relays = {host.name: Relay(host.address, host.port) for host in hosts}
        self._write("straight", _SOAK_S, {})
        self._write("patient", _PATIENT_SOAK_S, {})
        if record is not None:
            self._write("relayed", _SOAK_S, self.relays)
            self._pin(record)

    def close(self) -> None:
        """Ends the relays."""
        for relay in self.relays.values():
            relay.close()

    def fresh(self, name: str, way: str = "straight", *, store: bool = True) -> Operator:
        """Somebody with an empty journal, and with the store of releases or with an empty one."""
        folder = self._folder / name
        shutil.rmtree(folder, ignore_errors=True)
        (folder / "journal").mkdir(parents=True)
        return Operator(
            self._path(way), self._store if store else folder / "store", folder / "journal"
        )

    def _path(self, way: str) -> Path:
        # Beside the fleet's own inventory, since paths in it are taken from its folder.
        return self._fleet.folder / f"{way}.yaml"

    def _write(self, way: str, soak_s: float, relays: dict[str, Relay]) -> None:
        said = yaml.safe_load(self._fleet.inventory.read_text(encoding="utf-8"))
        said["service"]["soak_s"] = soak_s
        said["ssh"] |= {
            "connect_timeout_s": _CONNECT_S * self._slow,
            "command_timeout_s": _COMMAND_S * self._slow,
            "transfer_timeout_s": _TRANSFER_S * self._slow,
        }
        for name, relay in relays.items():
            said["hosts"][name] |= {"address": "127.0.0.1", "port": relay.port}
        if relays:
            said["ssh"]["known_hosts"] = f"{files.KNOWN_HOSTS}.relayed"
        self._path(way).write_text(yaml.safe_dump(said, sort_keys=False), encoding="utf-8")

    def _pin(self, record: FleetRecord) -> None:
        """The hosts' keys, under the addresses of their relays."""
        text = (self._fleet.folder / files.KNOWN_HOSTS).read_text(encoding="utf-8")
        for host in record.hosts:
            name = host.address if host.port == 22 else f"[{host.address}]:{host.port}"
            text = text.replace(f"{name} ", f"[127.0.0.1]:{self.relays[host.name].port} ")
        (self._fleet.folder / f"{files.KNOWN_HOSTS}.relayed").write_text(text, encoding="utf-8")

    def inventory_of(self, way: str = "straight") -> Path:
        """The inventory of one way."""
        load_inventory(self._path(way))
        return self._path(way)
