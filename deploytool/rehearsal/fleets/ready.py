"""What every kind of throwaway fleet needs to get ready: keys, patience, preparation."""

from __future__ import annotations

import os
import pwd
import socket
import time
from pathlib import Path

from deploytool.errors import EnvironmentProblem, HostFault
from deploytool.fleet.prepare import Admin, prepare_fleet, read_public_key
from deploytool.fleet.signers import with_signer
from deploytool.rehearsal.fleets import files
from deploytool.rehearsal.fleets.model import Progress
from deploytool.rehearsal.fleets.run import find, go_on, run

_KEYGEN_S = 20.0


def account() -> str:
    """The account that this runs as, whatever the environment says.

    Raises:
        EnvironmentProblem: it has no name, and ``sshd`` lets in by name only.
    """
    try:
        return pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:
        raise EnvironmentProblem(
            f"The account with number {os.geteuid()} has no name on this machine.",
            "Nothing was started.",
            "Run this from an account that /etc/passwd knows.",
        ) from None


def make_key(path: Path) -> None:
    """Makes an Ed25519 key pair without a passphrase: ``path`` and ``path.pub``."""
    keygen = find("ssh-keygen", "openssh-client")
    run([keygen, "-q", "-t", "ed25519", "-N", "", "-C", "throwaway", "-f", str(path)], _KEYGEN_S)


def make_signers(folder: Path) -> str:
    """Makes the keys of two who may sign; gives the text of the signers file."""
    text = ""
    people = ((files.SIGNER, files.SIGNER_IDENTITY), (files.SECOND, files.SECOND_IDENTITY))
    for name, identity in people:
        make_key(folder / identity)
        public = (folder / identity).with_suffix(".pub").read_text()
        text = with_signer(text, name, public, files.SIGNERS)
    return text


def wait_for_ssh(name: str, address: str, port: int, within_s: float) -> None:
    """Waits until an SSH server greets there.

    Raises:
        EnvironmentProblem: it did not within ``within_s``.
    """
    deadline = time.monotonic() + within_s
    last = "no answer"
    while (left := deadline - time.monotonic()) > 0:
        go_on()
        try:
            with socket.create_connection((address, port), timeout=min(left, 2.0)) as connection:
                connection.settimeout(min(left, 2.0))
                greeting = connection.recv(64)
                if greeting.startswith(b"SSH-"):
                    return
                last = f"it said {greeting!r}"
        except OSError as error:
            last = str(error)
        time.sleep(0.05)
    raise EnvironmentProblem(
        f"{name}: no SSH server greeted at {address}:{port} within {within_s:g} s ({last}).",
        "The fleet is not up.",
        "Take it down and bring it up again; if it stays so, look at the machine's load.",
    )


def prepare(
    inventory: Path, identity: Path, user: str, authorize: Path, progress: Progress
) -> None:
    """Readies the hosts with the code that readies a user's own: ``host prepare``.

    ``user`` comes in with the key ``identity``; the deploy account shall let ``authorize`` in.

    Raises:
        EnvironmentProblem: a host could not be made ready; names each that could not.
    """
    admin = Admin(user, str(identity), read_public_key(authorize))
    outcomes = prepare_fleet(inventory, admin, progress)
    failed = {name: fault for name, fault in outcomes.items() if isinstance(fault, HostFault)}
    if failed:
        raise EnvironmentProblem(
            f"{len(failed)} of {len(outcomes)} hosts could not be made ready.",
            "The fleet is not up. What is there stays, so that you can look at it.",
            f"See it in {inventory.parent}, then take it down with `deploytool fleet down`.",
            tuple(f"{name}: {fault}" for name, fault in failed.items()),
        )
