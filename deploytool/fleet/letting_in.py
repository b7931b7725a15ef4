"""Lets a stopped host in again where nobody can sign for it: by root on it, with a reason."""

from __future__ import annotations

import base64
import secrets
from dataclasses import replace
from shlex import quote

from deploytool.fleet.helper import helper_path
from deploytool.fleet.model import Inventory
from deploytool.fleet.prepare import Admin
from deploytool.fleet.protocol import Call, excerpt, parse_reply, request
from deploytool.fleet.session import Session
from deploytool.fleet.sshconfig import route


def let_in(inventory: Inventory, host: str, admin: Admin, by: str, reason: str) -> str:
    """Lets it in; gives what its artifact said, as it was told to release its own latch.

    ``by`` and ``reason`` in the alphabet of requests. The host writes both down before it does
    anything (``state/let-in``).

    Raises:
        HostFault: it refused, or that is not known.
    """
    way = route(inventory, host)
    if admin.user is not None:
        way = replace(way, user=admin.user)
    if admin.identity_file is not None:
        way = replace(way, identity_files=(admin.identity_file,), identities_only=True)
    service = inventory.service
    deadline_s = inventory.ssh.command_timeout_s + service.ready_timeout_s
    deadline_s += 2 * service.stop_timeout_s
    needs_root = service.supervisor == "systemd" and way.user != "root"
    path = quote(helper_path(inventory, host))
    nonce, call = secrets.token_hex(16), Call.of("let_in", by=by, reason=reason)
    session = Session(way, inventory.ssh.known_hosts, inventory.ssh.connect_timeout_s)
    try:
        # By a shell: what sudo allows the deploy account is the helper itself, and refused there.
        command = f"sudo -n sh -c {path}" if needs_root else f"exec {path}"
        answer = session.run(command, request(call, nonce), deadline_s=deadline_s)
    finally:
        session.close()
    reply = parse_reply(answer.output, nonce, call)
    said = reply.one("resume") or ""
    try:
        return excerpt(base64.b64decode(said).decode("utf-8", "replace"))
    except ValueError:
        return ""
