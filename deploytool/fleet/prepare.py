"""Makes a bare host ready, once: accounts, folders, helper, unit and the line of sudo rights.

One script a host, rendered from the inventory, run as root (or, for hosts without systemd, as
the deploy account itself). It is idempotent: what stands there already is left alone and said so.
"""

from __future__ import annotations

import re
import secrets
import shlex
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from deploytool.errors import FaultKind, HostFault, InputError
from deploytool.fleet.fanout import fanout
from deploytool.fleet.helper import HostFiles, host_files, service_account
from deploytool.fleet.inventory import load_inventory
from deploytool.fleet.model import Inventory
from deploytool.fleet.protocol import Call, excerpt, parse_reply
from deploytool.fleet.session import Session, check_known_hosts
from deploytool.fleet.sshconfig import Route, route

_DEADLINE_S = 120
_PUBLIC_KEY = re.compile(r"^(ssh|ecdsa|sk)-[a-z0-9@.-]+ [A-Za-z0-9+/=]+( [ -~]*)?$")


@dataclass(frozen=True)
class Admin:
    """Who prepares: an account that is root, or may use sudo without being asked.

    ``authorize`` is the public key that the deploy account shall let in (None: leave as it is).
    """

    user: str | None = None
    identity_file: str | None = None
    authorize: str | None = None


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


_COMMON = """\
set -uf
umask 022
LC_ALL=C
PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
export LC_ALL PATH
no() {{ printf 'deploytool %s end refused prepare %s\\n' {nonce} "$*"; exit 0; }}
changed() {{ printf 'changed %s\\n' "$1"; }}
folder() {{ # PATH MODE OWNER
    if [ ! -d "$1" ]; then mkdir -p "$1" 2>&1 || no "$1 can not be made"; changed "$1"; fi
    chmod "$2" "$1" || no "$1: its mode can not be set"
    [ -z "$3" ] || chown "$3" "$1" || no "$1: its owner can not be set"
}}
place() {{ # PATH MODE OWNER CONTENT
    if [ ! -f "$1" ] || [ "$(cat "$1"; echo .)" != "$4." ]; then
        printf '%s' "$4" >"$1.new" || no "$1 can not be written"
        chmod "$2" "$1.new" && mv -T "$1.new" "$1" || no "$1 can not be placed"
        changed "$1"
    fi
    chmod "$2" "$1"
    [ -z "$3" ] || chown "$3" "$1" || no "$1: its owner can not be set"
}}
for program in sha256sum stat dd df readlink flock timeout setpriv setsid sync mv head tail tr base64 cut; do
    command -v "$program" >/dev/null || no "$program is not on this host: coreutils and util-linux are needed"
done
printf '\\ndeploytool %s begin\\n' {nonce}
"""

_ROOT_ONLY = """\
[ "$(id -u)" = 0 ] || no "this needs root"
for program in systemctl sudo visudo useradd; do
    command -v "$program" >/dev/null || no "$program is not on this host"
done
account() {{ # NAME SHELL
    id -u "$1" >/dev/null 2>&1 || {{ useradd --system --user-group --create-home --shell "$2" "$1" && changed "account $1"; }} || no "account $1 can not be made"
}}
account {deploy} /bin/sh
account {service} /usr/sbin/nologin
"""

_AUTHORIZE = """\
home=$(getent passwd {deploy} | cut -d: -f6)
folder "$home/.ssh" 0700 {deploy}:
touch "$home/.ssh/authorized_keys"
case "$(cat "$home/.ssh/authorized_keys")" in
*{key}*) ;;
*) printf '%s\\n' {key} >>"$home/.ssh/authorized_keys"; changed "authorized key of {deploy}" ;;
esac
chmod 0600 "$home/.ssh/authorized_keys" && chown {deploy}: "$home/.ssh/authorized_keys" || no "authorized_keys: rights"
"""

_FOLDERS = """\
folder {root} 0755 {owner}
folder {root}/releases 0755 {owner}
folder {root}/state 0755 {owner}
folder {root}/state/service 0750 {service_owner}
place {root}/state/mutex 0600 {owner} ''
place {root}/state/probe.lock 0600 {owner} ''
folder {helper_folder} 0755 {owner}
place {helper_path} 0755 {owner} {helper}
"""

_UNIT = """\
folder {unit_folder} 0755 root:root
before=$(cat {unit_path} 2>/dev/null)
place {unit_path} 0644 root:root {unit}
[ "$before" = "$(cat {unit_path})" ] || systemctl daemon-reload || no "systemd does not reload"
if [ "$(systemctl is-enabled {service}.service 2>/dev/null)" != enabled ]; then
    systemctl enable --quiet {service}.service 2>&1 || no "the unit can not be enabled"
    changed "unit enabled"
fi
printf '%s' {sudoers} >{sudoers_path}.tmp && visudo -cqf {sudoers_path}.tmp || no "sudo refuses the line of rights"
rm -f {sudoers_path}.tmp
place {sudoers_path} 0440 root:root {sudoers}
"""


def _fill(template: str, values: dict[str, str]) -> str:
    return template.format(**{key: shlex.quote(value) for key, value in values.items()})


def render_script(
    inventory: Inventory, host: str, deploy: str, files: HostFiles, authorize: str | None, nonce: str
) -> str:
    """The preparation of one host as a shell script; every value in it is quoted."""
    systemd = files.unit_path is not None
    root = inventory.root(host)
    service = service_account(inventory)
    script = _fill(_COMMON, {"nonce": nonce})
    if systemd and service is not None:
        script += _fill(_ROOT_ONLY, {"deploy": deploy, "service": service})
        if authorize is not None:
            script += _fill(_AUTHORIZE, {"deploy": deploy, "key": authorize})
    script += _fill(
        _FOLDERS,
        {
            "root": root,
            "owner": "root:root" if systemd else "",
            "service_owner": f"{service}:{service}" if systemd else "",
            "helper_folder": files.helper_path.rpartition("/")[0],
            "helper_path": files.helper_path,
            "helper": files.helper,
        },
    )
    if files.unit_path and files.unit and files.sudoers_path and files.sudoers:
        script += _fill(
            _UNIT,
            {
                "unit_folder": files.unit_path.rpartition("/")[0],
                "unit_path": files.unit_path,
                "unit": files.unit,
                "service": inventory.service.name,
                "sudoers_path": files.sudoers_path,
                "sudoers": files.sudoers,
            },
        )
    return script + _fill("printf 'deploytool %s end ok\\n' {nonce}\n", {"nonce": nonce})


def _prepare_host(inventory: Inventory, host: str, admin: Admin) -> tuple[str, ...]:
    target = route(inventory, host)
    way: Route = target
    if admin.user is not None:
        way = replace(way, user=admin.user)
    if admin.identity_file is not None:
        way = replace(way, identity_files=(admin.identity_file,), identities_only=True)
    files = host_files(inventory, host, target.user)
    nonce = secrets.token_hex(16)
    script = render_script(inventory, host, target.user, files, admin.authorize, nonce)
    needs_root = files.unit_path is not None and way.user != "root"
    session = Session(way, inventory.ssh.known_hosts, inventory.ssh.connect_timeout_s)
    try:
        answer = session.run(
            "sudo -n sh -s" if needs_root else "sh -s",
            [script.encode()],
            deadline_s=_DEADLINE_S,
            changes=True,
        )
    finally:
        session.close()
    try:
        return parse_reply(answer.output, nonce, Call("prepare")).all("changed")
    except HostFault as fault:
        if fault.kind is FaultKind.REFUSED or not answer.errors:
            raise
        errors = excerpt(answer.errors.decode("utf-8", "replace"))
        raise HostFault(fault.kind, errors, in_doubt=True) from fault


def prepare_fleet(
    inventory_path: Path,
    admin: Admin,
    progress: Callable[[str], None] = lambda _line: None,
    *,
    hosts: tuple[str, ...] = (),
) -> dict[str, tuple[str, ...] | HostFault]:
    """Prepares every declared host (or those in ``hosts``), all at once.

    Returns what was changed on each host, or why it could not be prepared; none is left out.

    Raises:
        InputError: the inventory is wrong.
    """
    inventory = load_inventory(inventory_path)
    check_known_hosts(Path(inventory.ssh.known_hosts))

    def said(name: str, outcome: tuple[str, ...] | HostFault) -> None:
        if isinstance(outcome, HostFault):
            progress(f"{name}: NOT prepared: {outcome}")
        else:
            progress(f"{name}: prepared, {len(outcome)} things changed")

    return fanout(
        {
            name: (lambda name=name: _prepare_host(inventory, name, admin))  # type: ignore[misc]
            for name in (hosts or inventory.names)
        },
        deadline_s=_DEADLINE_S + inventory.ssh.connect_timeout_s * 4,
        done=said,
    )
