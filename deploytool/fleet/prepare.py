"""Makes a bare host ready, once: accounts, folders, agent, unit and the line of sudo rights.

One script a host, rendered from the inventory, run as root (or, for hosts without systemd, as
the deploy account itself). It is idempotent: what stands there already is left alone and said so.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from importlib import resources
from pathlib import Path

from deploytool.errors import FaultKind, HostFault, InputError
from deploytool.fleet.agent_settings import service_account
from deploytool.fleet.exchange_log import LOG
from deploytool.fleet.fanout import fanout
from deploytool.fleet.inventory import load_inventory
from deploytool.fleet.model import Inventory
from deploytool.fleet.prepared import assignments, host_files
from deploytool.fleet.protocol import Call, excerpt, parse_reply
from deploytool.fleet.session import Output, Session
from deploytool.fleet.sshconfig import Route, route

_DEADLINE_S = 120
_NAMED = 3
"""So many changes of one host are named in its line."""
_PUBLIC_KEY = re.compile(r"^(ssh|ecdsa|sk)-[a-z0-9@.-]+ [A-Za-z0-9+/=]+( [ -~]*)?$")


@dataclass(frozen=True)
class Admin:
    """Who prepares: an account that is root, or may use sudo without being asked.

    ``authorize`` is the public key that the deploy account shall let in (None: leave as it is).
    """

    user: str | None = None
    identity_file: str | None = None
    authorize: str | None = None


@dataclass(frozen=True)
class Prepared:
    """What was changed on a host, and why its unit was left as it was (empty: it was not)."""

    changed: tuple[str, ...]
    left: str = ""

    def __str__(self) -> str:
        return "; ".join((what_changed(self.changed), *([self.left] if self.left else [])))


def read_public_key(path: Path) -> str:
    """The one public key in ``path``, as a line of ``authorized_keys``.

    Raises:
        InputError: it isn't one (a private key is named as such, and not shown).
    """
    text = path.read_text(encoding="utf-8", errors="replace").strip()
    if not _PUBLIC_KEY.match(text):
        kind = "a private key" if "PRIVATE KEY" in text else "not one line with an SSH public key"
        raise InputError(
            f"{path} holds {kind}.", "Nothing was touched.", "Name the .pub file with --authorize."
        )
    return text


def render_script(
    inventory: Inventory, host: str, deploy: str, authorize: str | None, nonce: str
) -> str:
    """The preparation of one host as a shell script; every value in it is quoted."""
    files = host_files(inventory, host, deploy)
    settings = {
        "NONCE": nonce,
        "ROOT": inventory.root(host),
        "NAME": inventory.service.name,
        "DEPLOY": deploy,
        "ACCOUNT": service_account(inventory) or "",
        "AUTHORIZE": authorize or "",
        "PYTHON": files.settings.python or "",
        "AGENT_PATH": files.agent_path,
        "AGENT": files.agent.decode(),
        "UNIT_PATH": files.unit_path or "",
        "UNIT": files.unit or "",
        "SIGNERS_PATH": files.signers_path or "",
        "SIGNERS": files.signers or "",
        "SUDOERS_PATH": files.sudoers_path or "",
        "SUDOERS": files.sudoers or "",
    }
    trusted = resources.files("deploytool.agent").joinpath("trusted.sh")
    script = resources.files("deploytool.fleet").joinpath("prepare.sh")
    texts = (part.read_text(encoding="utf-8") for part in (trusted, script))
    return "\n".join([*assignments(settings), *texts])


def _prepare_host(inventory: Inventory, host: str, admin: Admin) -> Prepared:
    target = route(inventory, host)
    way = target.by(admin.user, admin.identity_file)
    nonce = secrets.token_hex(16)
    script = render_script(inventory, host, target.user, admin.authorize, nonce)
    needs_root = inventory.service.supervisor == "systemd" and way.user != "root"
    with LOG.asks(host, "prepare", None, len(script)):
        command = "sudo -n sh -s" if needs_root else "sh -s"
        return _prepared(_run(way, inventory, command, script), nonce)


def _run(way: Route, inventory: Inventory, command: str, script: str) -> Output:
    session = Session(way, inventory.ssh.known_hosts, inventory.ssh.connect_timeout_s)
    try:
        return session.run(command, script.encode(), deadline_s=_DEADLINE_S)
    finally:
        session.close()


def _prepared(answer: Output, nonce: str) -> Prepared:
    try:
        reply = parse_reply(answer.output, nonce, Call("prepare"))
        return Prepared(reply.all("changed"), what_left(reply.one("left")))
    except HostFault as fault:
        if fault.kind is FaultKind.REFUSED or not answer.errors:
            raise
        errors = excerpt(answer.errors.decode("utf-8", "replace"))
        raise HostFault(fault.kind, errors, in_doubt=True) from fault


def what_left(said: str | None) -> str:
    """Why the unit was left as it was, from "STATE MARK..."; empty where it was not."""
    if said is None:
        return ""
    state, *marks = said.split()
    out = "deploytool start" if "fenced" in marks else "deploytool resume, or rollback"
    return f"its unit is left {state}, by state/{', state/'.join(marks)}: {out} lets it in again"


def what_changed(changed: tuple[str, ...]) -> str:
    """What a preparation changed on a host, in words; of a bare host, how much."""
    if not changed:
        return "nothing had to be changed"
    return f"changed: {', '.join(changed) if len(changed) <= _NAMED else len(changed)}"


def prepare_fleet(
    inventory_path: Path,
    admin: Admin,
    progress: Callable[[str], None] = lambda _line: None,
    *,
    hosts: tuple[str, ...] = (),
) -> dict[str, Prepared | HostFault]:
    """Prepares every declared host (or those in ``hosts``), all at once.

    Returns what was done on each host, or why it could not be prepared; none is left out.

    Raises:
        InputError: the inventory is wrong.
    """
    inventory = load_inventory(inventory_path)

    def said(name: str, outcome: Prepared | HostFault) -> None:
        if isinstance(outcome, HostFault):
            progress(f"{name}: NOT prepared: {outcome}")
        else:
            progress(f"{name}: prepared; {outcome}")

    return fanout(
        {
            name: partial(_prepare_host, inventory, name, admin)
            for name in (hosts or inventory.names)
        },
        deadline_s=_DEADLINE_S + inventory.ssh.connect_timeout_s * 4,
        done=said,
    )
