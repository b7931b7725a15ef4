"""Makes a bare host ready, once: accounts, folders, agent, unit and the line of sudo rights.

One script a host, rendered from the inventory, run as root (or, for hosts without systemd, as
the deploy account itself). It is idempotent: what stands there already is left alone and said so.
Prepared means tried: it ends by logging in as the deploy account and asking the agent.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from importlib import resources
from pathlib import Path

from deploytool.agent.requests import Probe
from deploytool.core.text import excerpt
from deploytool.errors import FaultKind, HostFault, InputError
from deploytool.fleet.agent_settings import service_account
from deploytool.fleet.exchange_log import LOG
from deploytool.fleet.fanout import fanout
from deploytool.fleet.inventory import load_inventory
from deploytool.fleet.membership import RootShells, keep_members
from deploytool.fleet.model import Inventory
from deploytool.fleet.paths import expand_home
from deploytool.fleet.prepared import HostFiles, assignments, host_files
from deploytool.fleet.protocol import Call, Reply, parse_reply
from deploytool.fleet.remote import RemoteHost
from deploytool.fleet.session import Output, Session
from deploytool.fleet.sshconfig import Route, route
from deploytool.fleet.unit_options import UnitOptions

_DEADLINE_S = 120
_TRIED_S = 60
_QUESTION = Probe(read_disk=False, ask=False)
"""What is asked of the agent to see that it can be asked: what costs a host least."""
_NAMED = 3
"""So many changes of one host are named in its line."""
_PUBLIC_KEY = re.compile(r"^(ssh|ecdsa|sk)-[a-z0-9@.-]+ [A-Za-z0-9+/=]+( [ -~]*)?$")


@dataclass(frozen=True)
class Admin:
    """Who prepares: an account that is root, or may use sudo without being asked.

    ``authorize`` is the public key that the deploy account shall let in (None: leave as it is).
    ``dry``: what would be changed is said, and nothing is changed.
    """

    user: str | None = None
    identity_file: str | None = None
    authorize: str | None = None
    dry: bool = False


def admin_of(user: str | None, identity_file: Path | None) -> Admin:
    """The account that is root, or may use sudo, by the options that name it and its key."""
    return Admin(user, expand_home(str(identity_file)) if identity_file else None)


@dataclass(frozen=True)
class Prepared:
    """What was changed on a host, and why its unit was left as it was (empty: it was not)."""

    changed: tuple[str, ...]
    left: str = ""
    dry: bool = False

    def __str__(self) -> str:
        if self.dry:
            return f"would change: {', '.join(self.changed) or 'nothing'}"
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
    inventory: Inventory,
    host: str,
    deploy: str,
    authorize: str | None,
    nonce: str,
    *,
    dry: bool = False,
) -> str:
    """The preparation of one host as a shell script; every value in it is quoted."""
    files = host_files(inventory, host, deploy)
    options = inventory.service.unit or UnitOptions()
    settings = {
        **places(inventory, host, deploy),
        "NONCE": nonce,
        "DRY": "yes" if dry else "",
        "AUTHORIZE": authorize or "",
        "PYTHON": files.settings.python or "",
        "AGENT": files.agent.decode(),
        "UNIT": files.unit or "",
        "SANDBOX": "yes" if options.sandbox else "",
        "WRITABLE": "\n".join(inventory.expand(path, host) for path in options.writable),
        "SIGNERS": files.signers or "",
        "SUDOERS": files.sudoers or "",
    }
    trusted = resources.files("deploytool.agent").joinpath("trusted.sh")
    return "\n".join(
        [*assignments(settings), trusted.read_text(encoding="utf-8"), _script("prepare.sh")]
    )


def _script(name: str) -> str:
    return resources.files("deploytool.fleet").joinpath(name).read_text(encoding="utf-8")


def places(inventory: Inventory, host: str, deploy: str) -> dict[str, str]:
    """Whose a host is, and where what is brought to it stands, as its scripts know them."""
    files = host_files(inventory, host, deploy)
    return {
        "FLEET": inventory.fleet,
        "NAME": inventory.service.name,
        "ROOT": inventory.root(host),
        "DEPLOY": deploy,
        "ACCOUNT": service_account(inventory) or "",
        "AGENT_PATH": files.agent_path,
        "RECORD_PATH": _record_path(files),
        "UNIT_PATH": files.unit_path or "",
        "SIGNERS_PATH": files.signers_path or "",
        "MEMBERS_PATH": files.members_path or "",
        "SUDOERS_PATH": files.sudoers_path or "",
    }


def _record_path(files: HostFiles) -> str:
    """Where a host keeps whose it is and what preparations made there, beside its agent."""
    return f"{files.agent_path.rpartition('/')[0]}/prepared"


def _prepare_host(inventory: Inventory, host: str, admin: Admin) -> Prepared:
    target = route(inventory, host)
    nonce = secrets.token_hex(16)
    script = render_script(inventory, host, target.user, admin.authorize, nonce, dry=admin.dry)
    with LOG.asks(host, "prepare", None, len(script)):
        done = _prepared(_as_root(inventory, target, admin, script), nonce)
    if admin.dry:
        return replace(done, dry=True)
    _try(inventory, host, target, admin)
    return done


def _as_root(inventory: Inventory, target: Route, admin: Admin, script: str) -> Output:
    """Has a shell of root run ``script`` (without systemd: of the deploy account).

    Raises:
        HostFault: root could not log in, or it did not end in time.
    """
    way = target.by(admin.user, admin.identity_file)
    needs_root = inventory.service.supervisor == "systemd" and way.user != "root"
    return _run(way, inventory, "sudo -n sh -s" if needs_root else "sh -s", script)


def _try(inventory: Inventory, host: str, target: Route, admin: Admin) -> None:
    """Logs in as the deploy account and asks the agent, as a deployment does.

    Raises:
        HostFault: that failed; it names what root found in the way.
    """
    agent = RemoteHost(inventory, host, target)
    try:
        agent.call(_QUESTION, deadline_s=_TRIED_S)
    except HostFault as fault:
        causes = _in_the_way(inventory, host, target, admin, fault.kind)
        named = f" ({'; '.join(causes)})" if causes else ""
        text = f"all is in place, and {target.user} can't use it: {fault.text}{named}"
        raise HostFault(fault.kind, text, code=fault.code) from fault
    finally:
        agent.close()


def _in_the_way(
    inventory: Inventory, host: str, target: Route, admin: Admin, kind: FaultKind
) -> tuple[str, ...]:
    """What root finds in the way of the deploy account; empty where it finds nothing."""
    what = "agent" if kind in {FaultKind.RIGHTS, FaultKind.AGENT} else "login"
    if inventory.service.supervisor != "systemd":
        return ()
    try:
        return _ask_root(inventory, host, target, admin, "tried", WHAT=what).all("cause")
    except HostFault:
        return ()  # the fault itself is what is known then


def purge(inventory: Inventory, host: str, admin: Admin) -> tuple[tuple[str, ...], str]:
    """Takes away what preparations brought to a host whose service was stopped for good.

    Gives what was removed, and what was left there and why.

    Raises:
        HostFault: it was not all done; the same once more goes on from there.
    """
    reply = _ask_root(inventory, host, route(inventory, host), admin, "purge")
    return reply.all("changed"), "; ".join(reply.all("left"))


def root_shells(inventory: Inventory, admin: Admin) -> RootShells:
    """How the lists of members are read and written: as ``admin``, on any declared host."""

    def ask(host: str, kept: str, members: str) -> Reply:
        target = route(inventory, host)
        settings = {"KEPT": kept, "MEMBERS": members}
        return _ask_root(inventory, host, target, admin, "members", **settings)

    return ask


def _ask_root(
    inventory: Inventory, host: str, target: Route, admin: Admin, name: str, **settings: str
) -> Reply:
    """What root's shell answers to the script of this name.

    Raises:
        HostFault: root could not log in, it did not end in time, or it refuses.
    """
    nonce = secrets.token_hex(16)
    values = {**places(inventory, host, target.user), "NONCE": nonce, **settings}
    script = "\n".join([*assignments(values), _script(f"{name}.sh")])
    with LOG.asks(host, name, None, len(script)):
        answer = _as_root(inventory, target, admin, script)
        return parse_reply(answer.output, nonce, Call(name))


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

    The list of the fleet's members comes last: it is written to every declared host, or it is said
    why not. Returns what was done on each host, or why it could not be prepared; none is left out.

    Raises:
        InputError: the inventory is wrong.
    """
    inventory = load_inventory(inventory_path)
    chosen = hosts or inventory.names

    def said(name: str, outcome: Prepared | HostFault) -> None:
        if isinstance(outcome, HostFault):
            progress(f"{name}: NOT prepared: {outcome}")
        else:
            progress(f"{name}: {outcome}" if admin.dry else f"{name}: prepared; {outcome}")

    outcomes = fanout(
        {name: partial(_prepare_host, inventory, name, admin) for name in chosen},
        deadline_s=2 * _DEADLINE_S + _TRIED_S + inventory.ssh.connect_timeout_s * 4,
        done=said,
    )
    if not admin.dry and inventory.service.supervisor == "systemd":
        failed = {name for name, item in outcomes.items() if isinstance(item, HostFault)}
        outcomes |= keep_members(inventory, root_shells(inventory, admin), failed, progress)
    return outcomes
