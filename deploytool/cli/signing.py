"""What ``deploytool host signers`` does, says, and ends with."""

from __future__ import annotations

from pathlib import Path

from deploytool.cli.output import finish, say
from deploytool.errors import InputError, NotProven
from deploytool.fleet.inventory import load_inventory
from deploytool.fleet.model import Inventory
from deploytool.fleet.prepare import admin_of, read_public_key
from deploytool.fleet.signers import parse_signers, with_signer, without_signer, write_signers
from deploytool.operations.hosts import install_signers
from deploytool.operations.workspace import Workspace


def _read(path: Path) -> tuple[Inventory, Path, str]:
    """The inventory, its signers file, and what is in it."""
    fleet = load_inventory(path)
    if fleet.signers is None or fleet.allowed_signers is None:
        raise InputError(
            f"The inventory {path} names no signers file.",
            "Nothing was touched.",
            f"Write 'signers: signers/{fleet.fleet}' into it, make that file, and do this again",
        )
    return fleet, Path(fleet.signers), fleet.allowed_signers


def list_signers(inventory: Path) -> None:
    """Carries out the command of this name, and ends it."""
    fleet, file, text = _read(inventory)
    signers = parse_signers(text, str(file))
    for signer in signers:
        say(f"{signer.name:<24} {signer.key.split()[0]} {signer.key[-16:]}")
    if not signers:
        say(f"No one may sign for {fleet.fleet}: no flag can be armed.")
    finish({"signers": [{"name": s.name, "key": s.key} for s in signers]}, None)


def add(name: str, key: Path, inventory: Path, admin: str | None, admin_key: Path | None) -> None:
    """Carries out the command of this name, and ends it."""
    _, file, text = _read(inventory)
    public = " ".join(read_public_key(key).split()[:2])
    known = {(signer.name, signer.key) for signer in parse_signers(text, str(file))}
    if (name, public) not in known:
        write_signers(file, with_signer(text, name, public, str(file)))
        say(f"{name} may sign: written to {file}.")
    _install(inventory, admin, admin_key, f"{name} may sign")


def remove(name: str, inventory: Path, admin: str | None, admin_key: Path | None) -> None:
    """Carries out the command of this name, and ends it."""
    _, file, text = _read(inventory)
    write_signers(file, without_signer(text, name, str(file)))
    say(f"{name} may sign no more: taken out of {file}.")
    _install(inventory, admin, admin_key, f"{name} may sign no more")


def _install(path: Path, admin: str | None, admin_key: Path | None, what: str) -> None:
    """Puts the file on every host, looks whether each has it, and ends the command."""
    seen = install_signers(Workspace.open(path), admin_of(admin, admin_key), tell=say)
    failed = {name: text for name, text in seen.items() if text}
    error = None
    if failed:
        error = NotProven(
            f"{what}, and {len(failed)} of {len(seen)} hosts are NOT shown to know it.",
            "Those hosts may still accept the signers that they had before. Nothing was armed "
            "or disarmed.",
            f"deploytool host prepare -i {path} --admin root, then: deploytool status -i {path}",
            tuple(f"{name}: {text}" for name, text in failed.items()),
        )
    else:
        say(f"{what} on all {len(seen)} hosts: each was seen to have the file.")
    finish({"hosts": {name: failed.get(name, "has it") for name in seen}}, error)
