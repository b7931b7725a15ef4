"""An old build that somebody left running on a host, outside of the release root.

It has a login of its own at the market and clients of its own, so it trades whatever becomes of the
service, and nothing on the host ties it to the fleet: only the market hears it.
"""

from __future__ import annotations

import base64
import json
import shlex
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from deploytool.errors import EnvironmentProblem
from deploytool.market.flow import Flow
from deploytool.market.gateway import ClientGatewayConfig
from deploytool.market.link import RouterAddress
from deploytool.market.load import Load
from deploytool.market.process import MarketProcess
from deploytool.rehearsal.faults.host_shell import HostShell
from deploytool.rehearsal.fleets import files
from deploytool.rehearsal.fleets.model import FleetRecord
from deploytool.rehearsal.fleets.throwaway import Machines
from deploytool.release.model import Release

LOGIN = "SMARS"
"""What the market calls it: no host of the fleet."""
_HOST = "old-smars"
_PER_S = 50.0
_PARENTS = 60_000
_PORT_ABOVE = 1000
_PUT_S = 60.0
_READY_S = 30.0
_POLL_S = 0.1


@dataclass(frozen=True)
class Stray:
    """Where it runs, on which host's machine."""

    host_shell: HostShell
    folder: str
    pid: str

    def runs(self) -> bool:
        """Whether it still does; a host that can't be asked raises EnvironmentProblem."""
        script = f"test -d /proc/{self.pid} && echo yes || echo no"
        return self.host_shell.shell(script).strip() == "yes"

    def end(self) -> None:
        """Ends it, as whoever finds it would."""
        with suppress(EnvironmentProblem):
            self.host_shell.shell(f"kill -s KILL {self.pid}; rm -rf {shlex.quote(self.folder)}")


@contextmanager
def stray(host_shell: HostShell, old: Release, flow: Flow) -> Iterator[Stray]:
    """It trades, until it is ended or the block is left.

    Raises:
        EnvironmentProblem: it can't be started, or the market does not hear it.
    """
    record = host_shell.fleet.record()
    if record is None:
        raise EnvironmentProblem(
            "The fleet is gone.", "No old build was started.", "Rehearse again"
        )
    (address,) = [host.address for host in record.hosts if host.name == host_shell.host]
    port = int(host_shell.port) + _PORT_ABOVE
    started = _start(host_shell, old, _config(record), f"{address}:{port}")
    try:
        with _clients(record, old, address, port):
            _wait_until_heard(flow)
            yield started
    finally:
        started.end()


def _config(record: FleetRecord) -> bytes:
    """The fleet's own configuration, and another host's name, login and order tokens."""
    said = json.loads(files.router_config(record))
    said["hosts"] = {_HOST: {"login": LOGIN, "code": "99"}}
    return json.dumps(said).encode()


def _start(host_shell: HostShell, old: Release, config: bytes, listen: str) -> Stray:
    folder = host_shell.shell("mktemp -d").strip()
    artifact, where = Path(old.artifact), f"{folder}/router.json"
    _put(host_shell, artifact.read_bytes(), f"{folder}/{artifact.name}")
    _put(host_shell, config, where)
    argv = [f"{folder}/{artifact.name}", "serve", "--config", where, "--listen", listen]
    argv += ["--host", _HOST, "--state", f"{folder}/state", "--rehearsal"]
    pid = host_shell.shell(
        f'cd /; setsid env -i PATH="$PATH" {shlex.join(argv)} </dev/null >/dev/null 2>&1 & echo $!'
    )
    return Stray(host_shell, folder, pid.strip())


def _put(host_shell: HostShell, content: bytes, place: str) -> None:
    if not isinstance(host_shell.fleet, Machines):
        Path(place).write_bytes(content)
        Path(place).chmod(0o755)
        return
    text = base64.b64encode(content).decode()
    script = 'base64 -d > "$1" && chmod 0755 "$1"'
    told = host_shell.fleet.inside(host_shell.host, ("sh", "-c", script, "sh", place), text, _PUT_S)
    if told.code != 0:
        raise EnvironmentProblem(
            f"{host_shell.host}: {place} can't be written: {told.err.strip()}",
            "No old build was started.",
            "Rehearse again",
        )


@contextmanager
def _clients(record: FleetRecord, old: Release, address: str, port: int) -> Iterator[None]:
    """A gateway of its own, which sends it parents."""
    with tempfile.TemporaryDirectory(prefix="stray-") as folder:
        config, control = Path(folder) / "gateway.json", Path(folder) / "gateway.sock"
        config.touch(mode=0o600)
        routers = (RouterAddress(_HOST, address, port),)
        client = record.client
        config.write_text(ClientGatewayConfig(client.user, client.password, routers).as_json())
        words = ["--config", str(config)]
        log = Path(folder) / "gateway.log"
        with MarketProcess("deploytool.market.gateway", words, control, log) as gateway:
            gateway.ask("trust", releases=[old.digest])
            load = Load(_PARENTS, files.LIMITS, rate=_PER_S, seed=13)
            told = {name: value for name, value in asdict(load).items() if name != "rate"}
            gateway.ask("load", **told, rate=_PER_S, duration_s=_PARENTS / _PER_S)
            yield


def _wait_until_heard(flow: Flow) -> None:
    ends = time.monotonic() + _READY_S
    while (flow.market.ask("silence")["hosts"].get(LOGIN) or {}).get("wall") is None:
        if time.monotonic() > ends:
            raise EnvironmentProblem(
                f"The market hears nothing of {LOGIN} within {_READY_S:g} s.",
                "The old build does not trade.",
                "Rehearse again",
            )
        time.sleep(_POLL_S)
