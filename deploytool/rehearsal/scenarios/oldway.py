"""The old way: a shell loop with scp and ssh, as it is still written everywhere."""

from __future__ import annotations

import shlex
import subprocess
import tempfile
from dataclasses import replace
from importlib import resources
from pathlib import Path

from deploytool.fleet.inventory import load_inventory
from deploytool.fleet.model import Inventory
from deploytool.fleet.paths import PlainNames
from deploytool.fleet.sshconfig import route
from deploytool.parity.testinfra_specs import ssh_config
from deploytool.rehearsal.fleets.files import ADMIN_IDENTITY
from deploytool.rehearsal.stage import CommandEnd, Stage
from deploytool.release.store import MANIFEST

_DEADLINE_S = 120.0


def _switch(inventory: Inventory, host: str, release: str) -> str:
    """What the old way does on a host once the copy is there: switch the link, and restart."""
    root = shlex.quote(inventory.root(host))
    name = inventory.service.name
    if inventory.service.supervisor == "systemd":
        restart = f"systemctl restart {name}"
    else:
        start = shlex.join(inventory.argv(inventory.service.start, host))
        log = shlex.quote(f"{inventory.root(host)}/state/service/log")
        restart = (
            f"read -r pid start <{root}/state/pid; kill $pid; "
            "while kill -0 $pid 2>/dev/null; do sleep 0.1; done\n"
            f"setsid env -i PATH=/usr/local/bin:/usr/bin:/bin {start} </dev/null >>{log} 2>&1 &"
        )
    return (
        f"set -e\ncd {root}\nrm -rf releases/{release}\nmv incoming releases/{release}\n"
        f"chmod 0755 releases/{release}; chmod 0555 releases/{release}/{name}\n"
        f"chmod 0444 releases/{release}/{MANIFEST}\n"
        f"ln -sfn releases/{release} .current.old; mv -T .current.old current\n{restart}\n"
    )


def the_old_way(stage: Stage) -> CommandEnd:
    """Deploys the candidate with the shell loop, as whoever may write on the hosts."""
    inventory = load_inventory(stage.fleet.inventory)
    deadline_s = _DEADLINE_S * stage.record.factor
    release = stage.candidate
    admin = stage.fleet.inventory.with_name(ADMIN_IDENTITY).resolve()
    routes = {name: route(inventory, name) for name in inventory.names}
    if admin.is_file():
        routes = {
            name: replace(way, user="root", identity_files=(str(admin),))
            for name, way in routes.items()
        }
    plain = PlainNames()
    with tempfile.TemporaryDirectory(prefix="oldway-") as scratch:
        folder = Path(scratch)
        (folder / "ssh_config").write_text(ssh_config(inventory, routes, plain), encoding="utf-8")
        for name in inventory.names:
            into = f"{inventory.root(name)}/incoming"
            (folder / f"{name}.into").write_text(into, encoding="utf-8")
            (folder / f"{name}.sh").write_text(_switch(inventory, name, release.digest))
            make = shlex.join(["mkdir", "-p", into])
            subprocess.run(
                ["ssh", "-F", str(folder / "ssh_config"), name, make],
                timeout=deadline_s,
                check=True,
                stdin=subprocess.DEVNULL,
            )
        script = resources.files("deploytool.rehearsal.scenarios").joinpath("oldway.sh")
        manifest = Path(release.artifact).with_name(MANIFEST)
        command = ["sh", str(script), str(folder / "ssh_config"), release.artifact, str(manifest)]
        done = subprocess.run(
            [*command, str(folder), *inventory.names],
            capture_output=True,
            text=True,
            timeout=deadline_s,
            check=False,
        )
    return CommandEnd(
        done.returncode, (done.stdout.strip() + " " + done.stderr.strip()).strip()[:200]
    )
