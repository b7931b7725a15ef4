"""What may start the service beside its unit is shown, and nothing that only sounds like it."""

from __future__ import annotations

import errno
from typing import Any

import pytest

from deploytool.agent.model import Starter
from deploytool.agent.requests import Probe
from deploytool.agent.verbs.surroundings import FILES_AT_MOST, named
from deploytool.simulation.memory.host import Points, settings

from .ground import ONE, Ground

UNIT = "/etc/systemd/system"


def shown(ground: Ground) -> tuple[Starter, ...]:
    found: tuple[Starter, ...] | None = ground.done(Probe(surroundings=True)).evidence.starters
    assert found is not None
    return found


@pytest.fixture
def served() -> Ground:
    ground = Ground("systemd")
    ground.deploy(ONE)
    return ground


def test_a_prepared_host_has_nothing_else(served: Ground) -> None:
    """Its own unit, the link that enables it, and the agent's timer are none."""
    computer = served.host.computer
    agent = served.host.service.settings.agent
    for kind in ("service", "timer"):
        path = f"/run/systemd/transient/deploytool-deadman-router.{kind}"
        computer.put(path, f"ExecStart={agent}\n".encode())
    computer.put(f"{UNIT}/sshd.service", b"[Service]\nExecStart=/usr/sbin/sshd -D\n")
    computer.link(f"{UNIT}/masked.service", "/dev/null")
    computer.link(f"{UNIT}/gone.service", "/nowhere")
    computer.put("/etc/cron.d/logrotate", b"0 3 * * * root /usr/sbin/logrotate\n")
    assert shown(served) == ()


def test_it_is_shown_only_where_it_is_asked_for(served: Ground) -> None:
    assert served.done(Probe()).evidence.starters is None


@pytest.mark.parametrize(
    ("path", "text", "names"),
    [
        (f"{UNIT}/second.service", "ExecStart=/opt/router/releases/x/router\n", "root"),
        (f"{UNIT}/second.timer", "[Timer]\nUnit=/opt/router\n", "root"),
        (f"{UNIT}/other.wants/second.service", "ExecStart=/tmp/router serve\n", "artifact"),
        (f"{UNIT}/other.service.d/x.conf", "[Service]\nUser=router\n", "account"),
        ("/run/systemd/transient/run-1.service", "User=router\n", "account"),
        ("/usr/local/lib/systemd/system/x.socket", "ExecStart=/tmp/router\n", "artifact"),
        ("/etc/cron.d/x", "* * * * * router /tmp/y\n", "account"),
        ("/etc/cron.daily/x", "#!/bin/sh\nsu router -c /tmp/y\n", "account"),
        ("/var/spool/cron/crontabs/router", "* * * * * /tmp/y\n", "account"),
        ("/etc/rc.local", "/opt/router/current/router &\n", "root"),
        ("/etc/crontab", "@reboot root setpriv --reuid=1 /x/router\n", "artifact"),
        ("/var/lib/systemd/linger/router", "", "account"),
    ],
)
def test_what_may_start_it_is_shown(served: Ground, path: str, text: str, names: str) -> None:
    served.host.computer.put(path, text.encode())
    assert [(found.path, found.names) for found in shown(served)] == [(path, names)]


def test_a_file_that_cannot_be_read_may_name_anything(served: Ground) -> None:
    served.host.computer.put(f"{UNIT}/large.service", b"#" * 70_000)
    served.host.computer.put(f"{UNIT}/broken.service", b"")
    served.host.computer.disk.failing[("read", f"{UNIT}/broken.service")] = errno.EIO
    assert tuple({found.names for found in shown(served)}) == ("unreadable",)


def test_more_files_than_are_read_are_not_taken_for_none(served: Ground) -> None:
    for number in range(FILES_AT_MOST + 1):
        served.host.computer.put(f"/etc/cron.d/{number}", b"")
    assert served.refused(Probe(surroundings=True)) == "cannot-look"


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("/opt/router-exporter/bin/x", ""),
        ("/opt/routers", ""),
        ("/usr/bin/router-exporter", ""),
        ("/usr/bin/router.py", ""),
        ("User=router2", ""),
        ("User=root", ""),
        ("0 0 * * * routers x", ""),
        ("/opt/router", "root"),
        ("x=/opt/router\n", "root"),
        ('"/opt/router/current"', "root"),
        ("/opt/routers /opt/router;", "root"),
        ("/srv/router\n", "artifact"),
        ("/usr/local/lib/deploytool/router", ""),
        ("/usr/local/lib/deploytool/router /srv/router", "artifact"),
        ("User=router", "account"),
        ("runuser -u router -- x", "account"),
        ("su - router -c x", "account"),
    ],
)
def test_names(text: str, names: str) -> None:
    described: Any = settings()
    assert named(text, described.root, described) == names


def test_what_systemd_gives_to_what_it_starts_is_shown_as_of_a_process(served: Ground) -> None:
    served.host.computer.manager = ("PASSWORD=x", "LD_PRELOAD=/tmp/x.so", "PATH=/usr/bin")
    found = served.done(Probe(surroundings=True)).evidence.manager
    assert found == ("LD_PRELOAD=/tmp/x.so", "PASSWORD", "PATH=/usr/bin")
    assert served.done(Probe()).evidence.manager is None


RULE = "-A PREROUTING -p tcp --dport 7001 -j REDIRECT --to-ports 9"


@pytest.mark.parametrize(
    ("printed", "rules", "why"),
    [
        ((("iptables", f"*nat\n{RULE}\n"), ("nft", '{"nftables": []}')), (RULE,), ""),
        ((("iptables", "*nat\n"),), (), ""),
        ((), None, "neither nft nor iptables-save is on this host"),
        ((("nft", None),), None, "nft failed"),
        ((("nft", "{"),), None, "nft"),
    ],
)
def test_packet_rules_of_its_ports_are_shown_or_why_they_are_not(
    served: Ground,
    printed: tuple[tuple[str, str | None], ...],
    rules: tuple[str, ...] | None,
    why: str,
) -> None:
    assert served.host.service.settings.ports == (7001,)
    served.host.computer.packet_rules = printed
    found = served.done(Probe(surroundings=True)).evidence
    assert found.redirects == rules
    assert found.redirects_unknown.startswith(why)


def test_a_wave_does_not_pay_for_it(served: Ground) -> None:
    seen = Points()
    served.done(Probe(), hook=seen)
    assert not [what for what in seen.seen if "/etc/cron" in what]
