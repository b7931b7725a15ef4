"""The tools that are measured: each puts one artifact on all hosts and has it run there.

Each copies the file, checks its SHA-256 there, switches the link, restarts the service and reads
its version. Only deploytool looks at the running process, proves parity, and could go back.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path

import yaml
from artifact import Artifact
from fleet import BenchFleet

from deploytool.rehearsal.fleets.model import HostRecord

Tool = Callable[[BenchFleet, Artifact, Path], Callable[[], None]]
"""Lays out what a run needs, untimed; what it gives is the run that the clock is held to."""

_RUN_S = 600
_BENCH_BIN = Path(".deploytool/bench-venv/bin").absolute()


def digest(artifact: Artifact) -> str:
    """The artifact's SHA-256, as the tools check it on the hosts."""
    with artifact.path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _run(argv: Sequence[str | Path], env: dict[str, str] | None = None) -> str:
    told = subprocess.run(
        list(map(str, argv)),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=_RUN_S,
        check=False,
        env={**os.environ, **(env or {})},
    )
    if told.returncode != 0:
        raise RuntimeError(f"{argv[0]} failed:\n{told.stdout[-3000:]}\n{told.stderr[-3000:]}")
    return told.stdout


def _expect(host: HostRecord, said: str, artifact: Artifact) -> None:
    if said.strip().splitlines()[-1:] != [artifact.version_line]:
        raise RuntimeError(f"{host.name} says {said!r}, not {artifact.version_line!r}")


def _switch(bench: BenchFleet, host: HostRecord, sha256: str) -> str:
    """What happens on a host once the file is there, in the fewest words."""
    release = f"releases/{sha256}"
    return (
        f"echo '{sha256}  {release}/plain' | sha256sum -c --quiet && "
        f"chmod 0555 {release}/plain && ln -sfn {release} next && mv -T next current && "
        f"{{ {bench.restart(host)}; }} && current/plain --version"
    )


# The one place that knows how deploytool is called.
def deploytool(bench: BenchFleet, artifact: Artifact, scratch: Path) -> Callable[[], None]:
    """Deploytool as it comes: three waves, and three seconds for what was switched to die young."""
    return _deploytool(bench, bench.inventory, artifact, scratch)


def deploytool_at_once(bench: BenchFleet, artifact: Artifact, scratch: Path) -> Callable[[], None]:
    """The same proofs, but all hosts in one wave and no time to die young, as the others do it."""
    inventory = yaml.safe_load(bench.inventory.read_text())
    inventory["waves"] = ["rest"]
    inventory["service"]["soak_s"] = 0
    at_once = bench.inventory.with_name("at-once.yaml")
    at_once.write_text(yaml.safe_dump(inventory, sort_keys=False))
    return _deploytool(bench, at_once, artifact, scratch)


def _deploytool(
    bench: BenchFleet, inventory: Path, artifact: Artifact, scratch: Path
) -> Callable[[], None]:
    """Making the manifest belongs to the build, not to the run."""
    program = Path(sys.executable).with_name("deploytool")
    named = scratch / "router"
    named.unlink(missing_ok=True)
    named.hardlink_to(artifact.path)
    store: tuple[str | Path, ...] = ("--store", scratch / "store")
    identity = ("--name", "router", "--version", artifact.version, "--requires", "python3")
    _run([program, "release", "describe", named, *identity, *store])

    def run() -> None:
        argv: list[str | Path] = [
            program,
            "deploy",
            "-i",
            inventory,
            artifact.version,
            *store,
            "--json",
        ]
        report = json.loads(_run(argv))
        matching = [host for host in report["hosts"] if host["verdict"] == "MATCH"]
        if report["verdict"] != "PARITY" or len(matching) != len(bench.hosts):
            raise RuntimeError(f"not proven: {report}")

    return run


def parallel_ssh(bench: BenchFleet, artifact: Artifact, _scratch: Path) -> Callable[[], None]:
    """The floor: one stock client a host, all at once, the bare minimum in one command each."""
    sha256 = digest(artifact)

    def command(host: HostRecord) -> str:
        into = f"mkdir -p releases/{sha256} && cat >releases/{sha256}/plain"
        return f"cd {bench.root(host)} && {into} && {_switch(bench, host, sha256)}"

    def run() -> None:
        with ExitStack() as stack:
            clients = []
            for host in bench.hosts:
                payload = stack.enter_context(artifact.path.open("rb"))
                argv = [*bench.ssh(host), command(host)]
                clients.append(
                    subprocess.Popen(argv, stdin=payload, stdout=subprocess.PIPE, text=True)
                )
            for host, client in zip(bench.hosts, clients, strict=True):
                said, _ = stack.enter_context(client).communicate(timeout=_RUN_S)
                _expect(host, said, artifact)

    return run


def shell_loop(bench: BenchFleet, artifact: Artifact, _scratch: Path) -> Callable[[], None]:
    """The script that everybody has: host by host, scp and then ssh."""
    sha256 = digest(artifact)

    def run() -> None:
        for host in bench.hosts:
            root, enter = bench.root(host), bench.ssh(host)
            _run([*enter, f"mkdir -p {root}/releases/{sha256}"])
            there = f"{bench.user}@{host.address}:{root}/releases/{sha256}/plain"
            options = [*bench.ssh_options(), "-P", str(host.port)]
            _run(["scp", "-q", *options, artifact.path, there])
            _expect(host, _run([*enter, f"cd {root} && {_switch(bench, host, sha256)}"]), artifact)

    return run


_PYINFRA = """\
from pyinfra.operations import files, server, systemd
release = "{root}/releases/{sha256}"
files.put(src="{source}", dest=release + "/plain", mode="555")
server.shell(commands=["echo '{sha256}  " + release + "/plain' | sha256sum -c --quiet"])
files.link(path="{root}/current", target=release, force=True, force_backup=False)
systemd.service(service="plain", restarted=True)
server.shell(commands=["test \\"$({root}/current/plain --version)\\" = '{line}'"])
"""


def pyinfra(bench: BenchFleet, artifact: Artifact, scratch: Path) -> Callable[[], None]:
    """A tool in Python that works on all hosts at once."""
    data = {
        "ssh_user": bench.user,
        "ssh_key": str(bench.identity),
        "ssh_known_hosts_file": str(bench.known_hosts),
        "ssh_strict_host_key_checking": "yes",
    }
    names = [(host.address, data) for host in bench.hosts]
    inventory, deploy = scratch / "pyinfra_inventory.py", scratch / "pyinfra_deploy.py"
    inventory.write_text(f"hosts = {names!r}\n")
    root = bench.root(bench.hosts[0])
    values = {"root": root, "sha256": digest(artifact), "line": artifact.version_line}
    deploy.write_text(_PYINFRA.format(source=artifact.path.absolute(), **values))

    def run() -> None:
        _run([_BENCH_BIN / "pyinfra", "-y", inventory, deploy])

    return run


_PLAYBOOK = """\
- hosts: all
  gather_facts: false
  vars: {{release: "{root}/releases/{sha256}"}}
  tasks:
    - file: {{path: "{{{{ release }}}}", state: directory}}
    - copy: {{src: "{source}", dest: "{{{{ release }}}}/plain", mode: "0555"}}
    - stat: {{path: "{{{{ release }}}}/plain", checksum_algorithm: sha256}}
      register: there
      failed_when: there.stat.checksum != "{sha256}"
    - file: {{path: "{root}/current", src: "{{{{ release }}}}", state: link, force: true}}
    - systemd_service: {{name: plain, state: restarted}}
    - command: {{argv: ["{root}/current/plain", "--version"]}}
      register: said
      failed_when: said.stdout != "{line}"
"""
_ANSIBLE_CFG = """\
[defaults]
forks = 8
host_key_checking = true
interpreter_python = /usr/bin/python3
[ssh_connection]
pipelining = true
ssh_args = {options} -o ControlMaster=auto -o ControlPersist=60s
control_path_dir = {sockets}
"""


def ansible(bench: BenchFleet, artifact: Artifact, scratch: Path) -> Callable[[], None]:
    """The most used one, with what its manual says makes it fast: pipelining and enough forks."""
    sockets = Path(tempfile.mkdtemp(prefix="cp-"))  # a socket's path must be short
    config, book, hosts = (scratch / name for name in ("ansible.cfg", "play.yaml", "hosts.ini"))
    options = " ".join(bench.ssh_options())
    config.write_text(_ANSIBLE_CFG.format(options=options, sockets=sockets))
    hosts.write_text("".join(f"{h.address} ansible_user={bench.user}\n" for h in bench.hosts))
    root = bench.root(bench.hosts[0])
    values = {"root": root, "sha256": digest(artifact), "line": artifact.version_line}
    book.write_text(_PLAYBOOK.format(source=artifact.path.absolute(), **values))

    def run() -> None:
        try:
            argv: list[str | Path] = [_BENCH_BIN / "ansible-playbook", "-i", hosts, book]
            _run(argv, {"ANSIBLE_CONFIG": str(config), "ANSIBLE_NOCOLOR": "1"})
        finally:
            for socket in sockets.iterdir():  # else the next run would find its connections open
                subprocess.run(
                    ["ssh", "-o", f"ControlPath={socket}", "-O", "exit", "host"],
                    capture_output=True,
                    timeout=10,
                    check=False,
                )
            shutil.rmtree(sockets, ignore_errors=True)

    return run


TOOLS: dict[str, Tool] = {
    "parallel ssh (the floor)": parallel_ssh,
    "deploytool, all at once": deploytool_at_once,
    "deploytool": deploytool,
    "pyinfra": pyinfra,
    "shell loop with scp": shell_loop,
    "Ansible": ansible,
}
FLOOR, OURS = list(TOOLS)[:2]
