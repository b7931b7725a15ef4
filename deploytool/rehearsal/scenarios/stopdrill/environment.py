"""Where a drill plays: an inventory with lease and witness, a host behind a relay, a watch."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from deploytool.errors import EnvironmentProblem
from deploytool.fleet.inventory import load_inventory
from deploytool.fleet.model import Inventory
from deploytool.rehearsal.faults.host_shell import HostShell
from deploytool.rehearsal.faults.relay import Relay
from deploytool.rehearsal.fleets import files
from deploytool.rehearsal.fleets.ready import account, prepare
from deploytool.rehearsal.fleets.throwaway import Machines
from deploytool.rehearsal.stage import Stage

_LEASE_S = 30.0
"""Long enough that a stop has named its end before it comes, on hosts that are not slow."""
INVENTORY = "drill.yaml"
WITNESS = "market.sock"
_COMMAND = (sys.executable, "-c", "from deploytool.cli.entry import main; main()")
"""What the console script does, wherever it is installed."""
_COMMAND_S = 120.0
_END_S = 10.0
_READY_S = 60
_TOLD = 1500


@dataclass(frozen=True)
class Said:
    """How a command ended: exit code, its JSON document, its other words, and how long it took."""

    code: int
    document: dict[str, Any]
    errors: str
    seconds: float

    @property
    def rows(self) -> dict[str, dict[str, Any]]:
        """What a stop said of each host."""
        return {row["host"]: row for row in self.document.get("hosts", [])}


class Setting:
    """A fleet for the length of a drill. ``cut_off`` is the host that is behind the relay."""

    def __init__(self, stage: Stage, cut_off: str) -> None:
        self._fleet = stage.fleet
        self.slow = stage.record.factor
        (host,) = [host for host in stage.record.hosts if host.name == cut_off]
        self.relay = Relay(host.address, host.port)
        self._write(host.name, host.address, host.port)
        self.stage = stage.by(self.path)

    @property
    def lease_s(self) -> float:
        """The leases' length on this fleet."""
        return _LEASE_S * self.slow

    @property
    def folder(self) -> Path:
        """The fleet's folder."""
        return self._fleet.folder

    @property
    def path(self) -> Path:
        """The drill's inventory: beside the fleet's own, since paths in it begin there."""
        return self.folder / INVENTORY

    @property
    def inventory(self) -> Inventory:
        """What it says."""
        return load_inventory(self.path)

    @property
    def hosts(self) -> tuple[str, ...]:
        """Every host, by number."""
        return tuple(host.name for host in self.stage.record.hosts)

    def host_shell(self, host: str) -> HostShell:
        """A host, past SSH."""
        return HostShell(self._fleet, self.inventory, host, "", "")

    def _write(self, cut_off: str, address: str, port: int) -> None:
        folder = self._fleet.folder
        said = yaml.safe_load(self._fleet.inventory.read_text(encoding="utf-8"))
        said["lease_s"] = self.lease_s
        # Eight routers, market and load on one machine.
        said["service"]["ready_timeout_s"] = _READY_S * self.slow
        said["silence"] = {
            "command": [
                *(sys.executable, "-m", "deploytool.market.witness"),
                *("--control", WITNESS, "--hosts", files.ROUTER_CONFIG),
            ],
            "timeout_s": 20,
        }
        said["hosts"][cut_off] |= {"address": "127.0.0.1", "port": self.relay.port}
        said["ssh"]["known_hosts"] = f"{files.KNOWN_HOSTS}.drill"
        self.path.write_text(yaml.safe_dump(said, sort_keys=False), encoding="utf-8")
        pinned = (folder / files.KNOWN_HOSTS).read_text(encoding="utf-8")
        name = address if port == 22 else f"[{address}]:{port}"
        pinned = pinned.replace(f"{name} ", f"[127.0.0.1]:{self.relay.port} ")
        (folder / f"{files.KNOWN_HOSTS}.drill").write_text(pinned, encoding="utf-8")
        record = self._fleet.record()
        if record is not None:
            config = files.router_config(record)
            (folder / files.ROUTER_CONFIG).write_text(config, encoding="utf-8")

    def prepare(self) -> None:
        """Readies the hosts by the drill's inventory, as a user does whose inventory changed."""
        folder, own_root = self._fleet.folder, isinstance(self._fleet, Machines)
        admin = folder / (files.ADMIN_IDENTITY if own_root else files.IDENTITY)
        public = (folder / files.IDENTITY).with_suffix(".pub")
        user = "root" if own_root else account()
        prepare(self.path, admin, user, public, lambda _line: None)

    # --- commands -------------------------------------------------------------------------------

    def run(self, *words: str) -> Said:
        """Runs a command of deploytool as a person would, in a process of its own."""
        verb, *rest = words
        argv = [*_COMMAND, verb, "-i", str(self.path), *rest, "--json"]
        began = time.monotonic()
        try:
            done = subprocess.run(
                argv,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                timeout=_COMMAND_S * self.slow,
                check=False,
            )
        except subprocess.TimeoutExpired as error:
            raise EnvironmentProblem(
                f"deploytool {verb} did not end within {_COMMAND_S * self.slow:g} s.",
                "The drill failed.",
                "deploytool rehearse --scenario stop-drill",
            ) from error
        seconds = time.monotonic() - began
        document: dict[str, Any] = {}
        with suppress(ValueError):
            document = json.loads(done.stdout)
        return Said(done.returncode, document, done.stderr.decode("utf-8", "replace"), seconds)

    @contextmanager
    def watched(self) -> Iterator[None]:
        """``deploytool watch``, which renews the leases, for the length of a block."""
        argv = [*_COMMAND, "watch", "-i", str(self.path)]
        with self._watch_log.open("ab") as stream:
            process = subprocess.Popen(
                argv, stdin=subprocess.DEVNULL, stdout=stream, stderr=stream, start_new_session=True
            )
        try:
            yield
        finally:
            process.send_signal(signal.SIGINT)
            try:
                process.wait(_END_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait(_END_S)

    @property
    def _watch_log(self) -> Path:
        return self._fleet.folder / "watch.log"

    def watch_said(self) -> str:
        """The last that the watch said."""
        return self._watch_log.read_text(encoding="utf-8", errors="replace")[-_TOLD:]

    @contextmanager
    def witnessed(self, control: Path) -> Iterator[None]:
        """The market's socket where the inventory's witness looks for it."""
        link = self._fleet.folder / WITNESS
        link.unlink(missing_ok=True)
        link.symlink_to(control)
        try:
            yield
        finally:
            link.unlink(missing_ok=True)

    def close(self) -> None:
        """Ends the relay."""
        self.relay.close()


@contextmanager
def setting(stage: Stage, cut_off: str) -> Iterator[Setting]:
    """A setting for the length of a block."""
    with ExitStack() as stack:
        made = Setting(stage, cut_off)
        stack.callback(made.close)
        yield made
