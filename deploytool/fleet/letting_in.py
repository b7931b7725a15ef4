"""Lets a stopped host in again where nobody can sign for it: by root on it, with a reason."""

from __future__ import annotations

import secrets
from shlex import quote

from deploytool.agent.protocol import request_bytes
from deploytool.agent.requests import LetIn, Resumed
from deploytool.core.text import excerpt
from deploytool.fleet.agent_settings import agent_path
from deploytool.fleet.exchange_log import LOG
from deploytool.fleet.model import Inventory
from deploytool.fleet.prepare import Admin
from deploytool.fleet.protocol import parse_answer
from deploytool.fleet.session import Session
from deploytool.fleet.sshconfig import route


def let_in(inventory: Inventory, host: str, admin: Admin, by: str, reason: str) -> str:
    """Lets it in; gives what its artifact said, as it was told to release its own latch.

    ``by`` and ``reason`` in the alphabet of requests. The host writes both down before it does
    anything (``state/let-in``).

    Raises:
        HostFault: it refused, or that is not known.
    """
    way = route(inventory, host).by(admin.user, admin.identity_file)
    service = inventory.service
    deadline_s = inventory.ssh.command_timeout_s + service.ready_timeout_s
    deadline_s += 2 * service.stop_timeout_s
    needs_root = service.supervisor == "systemd" and way.user != "root"
    path = quote(agent_path(inventory, host))
    nonce, request = secrets.token_hex(16), LetIn(by=by, reason=reason)
    # By a shell: what sudo allows the deploy account is the agent itself, and refused there.
    command = f"sudo -n sh -c {path}" if needs_root else f"exec {path}"
    with LOG.asks(host, request.verb, request) as exchange:
        session = Session(way, inventory.ssh.known_hosts, inventory.ssh.connect_timeout_s)
        try:
            output = session.run(command, request_bytes(request, nonce), deadline_s=deadline_s)
        finally:
            session.close()
        exchange.answer = answer = parse_answer(output.output, nonce, request)
    said = answer.said if isinstance(answer, Resumed) else None
    return excerpt(said.answer or said.errors) if said is not None else ""
