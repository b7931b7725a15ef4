"""A host whose Python is gone, hangs, dies or is damaged: a stop needs none."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from deploytool.rehearsal.fleets.run import find
from tests.unable import unable

from .conftest import HOSTS, Desk

pytestmark = pytest.mark.sshd

PYTHON = Path("/usr/bin/python3")
OWN = "own"
"""The real interpreter, which a replaced one may run."""
SCRIPTS = {
    "hangs": "exec sleep 600",
    "out of memory": f'ulimit -v 9000; exec {{folder}}/{OWN} "$@"',
    "slow": f'sleep 2.5; exec {{folder}}/{OWN} "$@"',
}


def library() -> Path:
    """Where the system's interpreter has its standard library."""
    code = "import os; print(os.path.dirname(os.__file__))"
    argv = [str(PYTHON), "-I", "-S", "-c", code]
    return Path(subprocess.run(argv, capture_output=True, text=True, check=True).stdout.strip())


def mounts(how: str, folder: Path) -> list[str]:
    """What is mounted over the host's own, in its namespace alone."""
    folder.mkdir()
    if how == "no hashlib":
        return [f"mount --bind /dev/null {library()}/hashlib.py"]
    if how == "no encodings":
        return [f"mount --bind {folder} {library()}/encodings"]
    (folder / OWN).touch()
    fake = folder / "fake"
    fake.write_text(f"#!/bin/sh\n{SCRIPTS.get(how, '')}\n".format(folder=folder))
    fake.chmod(0o644 if how == "absent" else 0o755)
    target = PYTHON.resolve()
    return [f"mount --bind {target} {folder / OWN}", f"mount --bind {fake} {target}"]


@contextmanager
def python_that(how: str, desk: Desk, host: str, folder: Path) -> Iterator[None]:
    """One host's ``sshd``, started again where Python is like that; then as it was."""
    if os.geteuid() != 0:
        unable("this needs root: a mount namespace")
    sshd(desk, host, mounts(how, folder / host))
    try:
        yield
    finally:
        sshd(desk, host, [])


def sshd(desk: Desk, host: str, script: list[str]) -> None:
    here = desk.fleet.host_folder(host)
    pid = int((here / "sshd.pid").read_text())
    os.kill(pid, signal.SIGTERM)
    while Path(f"/proc/{pid}").exists():
        time.sleep(0.02)
    daemon = f"exec {find('sshd', 'openssh-server')} -f {here}/sshd_config -E {here}/sshd.log"
    argv = ["unshare", "--mount", "sh", "-ec", "\n".join([*script, daemon])]
    subprocess.run(argv, check=True, timeout=30)


@pytest.mark.parametrize(
    "faults",
    [("absent", "hangs", "no hashlib"), ("out of memory", "no encodings", "slow")],
    ids=", ".join,
)
def test_p6_a_stop_needs_no_python_and_a_deployment_names_the_hosts_without(
    desk: Desk, tmp_path: Path, faults: tuple[str, ...]
) -> None:
    """One that is slow comes to its halt after the last rungs: who asked waits no more for it."""
    told = Path(desk.inventory).read_text()
    quick = Path(desk.inventory).with_name("quick.yaml")
    quick.write_text(re.sub(r"command_timeout_s: \d+", "command_timeout_s: 3", told))
    with ExitStack() as stack:
        for host, how in zip(HOSTS, faults, strict=True):
            stack.enter_context(python_that(how, desk, host, tmp_path))
        refused = desk.tool("deploy", "-i", str(quick), "2026.1", "--store", desk.store)
        assert refused.code == 3, refused
        said = refused.out + refused.err
        assert all(h in said for h, how in zip(HOSTS, faults, strict=True) if how != "slow"), said
        ended = desk.stop("--all", "--reason", "runaway")
        ends = {row["host"]: row["end"] for row in ended.document["hosts"]}
        assert ends == dict.fromkeys(HOSTS, "DEAD"), ended
        assert ended.code == 6, "no witness saw their silence"
        latches = [(desk.root(host) / "state" / "halted").read_bytes() for host in HOSTS]
        if "slow" in faults:
            time.sleep(4)
        for host, latch in zip(HOSTS, latches, strict=True):
            state = desk.root(host) / "state"
            assert desk.main(host) == 0
            assert (state / "fenced").exists()
            assert (state / "halted").read_bytes() == latch
