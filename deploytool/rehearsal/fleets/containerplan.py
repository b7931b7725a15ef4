"""A fleet of containers before it is there: whether there is room, its names, its addresses."""

from __future__ import annotations

import random
import secrets
from dataclasses import replace
from pathlib import Path

from deploytool.errors import EnvironmentProblem
from deploytool.rehearsal.fleets.engine import Engine
from deploytool.rehearsal.fleets.model import Client, Endpoint, FleetRecord, HostRecord

_MARKET_PORT = 9001
_FIRST_ADDRESS = 11
_INOTIFY = Path("/proc/sys/fs/inotify/max_user_instances")
_INOTIFY_PER_HOST = 5


def check_room(count: int) -> None:
    """Each systemd takes its share of a number that all containers of this machine draw on.

    Raises:
        EnvironmentProblem: there is not enough of it; hosts would hang at boot without a word.
    """
    allowed = int(_INOTIFY.read_text()) if _INOTIFY.exists() else 0
    if _INOTIFY.exists() and count * _INOTIFY_PER_HOST > allowed:
        raise EnvironmentProblem(
            f"This machine allows {allowed} inotify instances; {count} hosts with systemd need "
            f"about {count * _INOTIFY_PER_HOST}.",
            "Nothing was started.",
            "sudo sysctl fs.inotify.max_user_instances=1024",
        )


def plan(count: int, engine: Engine) -> FleetRecord:
    """The fleet before anything of it exists: its names are what ``down`` looks for."""
    identity = secrets.token_hex(4)
    hosts = tuple(
        HostRecord(
            name=f"router{number}",
            address="",
            port=22,
            listen="0.0.0.0:7001",
            container=f"deploytool-{identity}-router{number}",
        )
        for number in range(1, count + 1)
    )
    return FleetRecord(
        id=identity,
        kind="container",
        phase="rising",
        hosts=hosts,
        market=Endpoint("", _MARKET_PORT),
        client=Client("GATE01", secrets.token_hex(5)),
        engine=engine.name,
        network=f"deploytool-{identity}",
    )


def on_subnet(record: FleetRecord) -> FleetRecord:
    """The same fleet with addresses in a private subnet picked at random."""
    net = f"10.{random.randrange(200, 250)}.{random.randrange(256)}"  # noqa: S311 (only spread)
    hosts = tuple(
        replace(host, address=f"{net}.{_FIRST_ADDRESS + number}")
        for number, host in enumerate(record.hosts)
    )
    market = replace(record.market, host=f"{net}.1")
    return replace(record, hosts=hosts, market=market, subnet=f"{net}.0/24")
