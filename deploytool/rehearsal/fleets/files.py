"""What a throwaway fleet is described by: inventory, pinned keys, router configuration."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

import yaml

from deploytool.rehearsal.fleets.model import FleetRecord, HostRecord

IDENTITY = "id_ed25519"
ADMIN_IDENTITY = "admin_ed25519"
SIGNER_IDENTITY = "signer_ed25519"
"""The key of whoever arms flags on a throwaway fleet; ``signers`` names it ``rehearsal``."""
SIGNER = "rehearsal"
SECOND_IDENTITY = "second_ed25519"
"""The key of whoever confirms what the first asks for; ``signers`` names it ``second``."""
SECOND = "second"
SIGNERS = "signers"
KNOWN_HOSTS = "known_hosts"
INVENTORY = "inventory.yaml"
ROUTER_CONFIG = "router.json"
_COMMIT_S, _COMMIT_AT_MOST_S = 15, 60
"""How long an armed flag is provisional; a router takes no more (docs/wire.md)."""
SYMBOLS = {"ACME": 100_000, "GLOBEX": 250_000, "INITECH": 1_234_500, "UMBRELLA": 50_000}
LIMITS = {name: (price + 500, price - 500) for name, price in SYMBOLS.items()}
"""The highest price to buy each at and the lowest to sell it at, in a rehearsal's loads."""


def _waves(count: int) -> list[int | str]:
    """A canary, then a few, then the rest, as far as there are hosts for it."""
    if count == 1:
        return ["rest"]
    return [1, "rest"] if count < 5 else [1, 3, "rest"]


def _host(host: HostRecord) -> dict[str, Any]:
    port = {} if host.port == 22 else {"port": host.port}
    return {"address": host.address, **port, "vars": {"listen": host.listen}}


def inventory(
    record: FleetRecord, release_root: str, ssh_user: str, service_user: str, supervisor: str
) -> str:
    """The inventory, in the shape of ``inventories/example.yaml``."""
    state = ["--state", "{state}"]
    slow = record.factor
    stretched = {"stop_timeout_s": 10 * slow, "ask_timeout_s": 5 * slow} if slow > 1 else {}
    start = ["{current}/router", "serve", *state, "--config", "{root}/etc/router.json"]
    start += ["--listen", "{listen}", "--host", "{host}"]
    document = {
        "fleet": f"throwaway-{record.kind}",
        "throwaway": True,
        "expect": len(record.hosts),
        "release_root": release_root,
        "service": {
            "name": "router",
            "user": service_user,
            "supervisor": supervisor,
            "start": [
                *start,
                "--fleet",
                "{fleet}",
                "--signers",
                "{signers}",
                "--lease",
                "{lease_s}",
            ],
            "version": ["{current}/router", "--version"],
            "status": ["{current}/router", "status", "--json", *state],
            "halt": ["{current}/router", "halt", "--reason", "{reason}", "--by", "{by}", *state],
            "halt_signal": "USR1",
            "lease": ["{current}/router", "lease", "{nonce}", *state],
            "resume": ["{current}/router", "resume", *state],
            "flags": {
                "observe": ["{current}/router", "flag", "show", *state],
                **{
                    verb: ["{current}/router", "flag", verb, "{flag}", *state]
                    for verb in ("prepare", "commit", "settle", "disarm")
                },
            },
            "socket": {
                "path": "{state}/control.sock",
                "status": '{"command": "status"}',
                "halt": '{"command": "halt", "reason": "{reason}", "by": "{by}"}',
                "lease": '{"command": "lease", "nonce": "{nonce}"}',
            },
            "listen": ["{listen}"],
            "soak_s": 1,
            "ready_timeout_s": 20 * slow,
            **stretched,
        },
        "lease_s": 0,
        "config_files": ["{root}/etc/router.json"],
        "signers": SIGNERS,
        "ssh": {
            "user": ssh_user,
            "known_hosts": KNOWN_HOSTS,
            "identity_file": IDENTITY,
            "connect_timeout_s": 5 * slow,
            "command_timeout_s": 30 * slow,
        },
        "waves": _waves(len(record.hosts)),
        "hosts": {host.name: _host(host) for host in record.hosts},
    }
    head = f"# A throwaway fleet ({record.kind}). Written by deploytool; `fleet down` removes it.\n"
    return head + yaml.safe_dump(document, sort_keys=False, default_flow_style=None, width=200)


def with_waves(text: str, waves: tuple[int | str, ...]) -> str:
    """An inventory that ``inventory`` wrote, with other waves: those of a fleet it stands for."""
    head, _, body = text.partition("\n")
    document = {**yaml.safe_load(body), "waves": list(waves)}
    return (
        f"{head}\n{yaml.safe_dump(document, sort_keys=False, default_flow_style=None, width=200)}"
    )


def known_hosts(record: FleetRecord, keys: Mapping[str, tuple[str, ...]]) -> str:
    """The pinned host keys: all that each host has, since a client may be offered any of them.

    Raises:
        KeyError: a host has no keys; nothing is ever pinned for it by guessing.
    """
    lines = []
    for host in record.hosts:
        where = host.address if host.port == 22 else f"[{host.address}]:{host.port}"
        lines += [f"{where} {' '.join(key.split()[:2])}" for key in keys[host.name]]
    return "\n".join(lines) + "\n"


def router_config(record: FleetRecord) -> str:
    """What every router of the fleet is configured with, the same bytes. See docs/wire.md."""
    password = hashlib.sha256(record.client.password.encode()).hexdigest()
    document = {
        "schema": 1,
        "firm": "DEPL",
        "hosts": {
            host.name: {"login": f"RTR{number:03d}", "code": f"{number:02d}"}
            for number, host in enumerate(record.hosts, start=1)
        },
        "clients": {record.client.user: password},
        "venues": [
            {
                "name": "XA",
                "address": f"{record.market.host}:{record.market.port}",
                "retail": True,
            }
        ],
        "symbols": {
            name: {"reference_price": price, "collar_bp": 1000, "max_position": 100_000}
            for name, price in SYMBOLS.items()
        },
        "strategy": {"slice_qty": 100, "max_slices": 10},
        "limits": {
            "order_qty": 10_000,
            "order_value": 5_000_000_000,
            "account_position": 1_000_000,
            "gross_notional": 100_000_000_000,
            "messages_per_s": 200_000,
            "children_per_parent": 20,
            "parents": 1_000_000,
        },
        "breakers": {
            "orders_per_s": 200_000,
            "position_value": 100_000_000_000,
            "reject_percent": 50,
            "reject_min": 100,
            "children_per_parent": 20,
            "repeated_executions": 1,
            "out_per_in": 25,
            "out_per_in_min": 1000,
        },
        "drain_s": 5,
        # All hosts share one machine, which has other work: long enough for the slowest of them.
        "flags": {"commit_s": min(_COMMIT_AT_MOST_S, round(_COMMIT_S * record.factor))},
    }
    return json.dumps(document, indent=2) + "\n"
