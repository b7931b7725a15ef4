"""The unit has what the inventory gives it, and nothing in an inventory is a line of its own."""

from __future__ import annotations

import shlex
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deploytool.core.finding import Level
from deploytool.fleet.model import Inventory
from deploytool.fleet.prepare import render_script
from deploytool.fleet.prepared import host_files
from deploytool.fleet.unit import unit_file
from deploytool.fleet.unit_options import UnitOptions
from deploytool.parity.process_rules import running_rule
from deploytool.simulation import fleet
from tests.unit.evidences import but, good, wanted

PLAIN = fleet.inventory(2, "systemd")
SANDBOX = ["ProtectSystem=strict", "ProtectHome=yes", "PrivateTmp=yes"]


def given_to(**options: object) -> Inventory:
    unit = UnitOptions.model_validate(options)
    service = PLAIN.service.model_copy(update={"unit": unit})
    return PLAIN.model_copy(update={"service": service})


def lines(**options: object) -> list[str]:
    """What the options add to the unit, or change in it."""
    plain = unit_file(PLAIN, "router1").splitlines()
    return [x for x in unit_file(given_to(**options), "router1").splitlines() if x not in plain]


@pytest.mark.parametrize(
    ("options", "added"),
    [
        ({}, []),
        ({"environment": {"TZ": "UTC"}}, ['Environment="TZ=UTC"']),
        (
            {"environment": {"H": "{host}:{state}"}},
            ['Environment="H=router1:/opt/router/state/service"'],
        ),
        (
            {"limits": {"nofile": 65536, "core": "infinity"}},
            ["LimitNOFILE=65536", "LimitCORE=infinity"],
        ),
        (
            {"capabilities": ("sys_nice", "ipc_lock")},
            [
                "CapabilityBoundingSet=CAP_SYS_NICE CAP_IPC_LOCK",
                "AmbientCapabilities=CAP_SYS_NICE CAP_IPC_LOCK",
            ],
        ),
        ({"after": ("chrony.service",)}, ["After=network-online.target chrony.service"]),
        ({"cpus": "2-3,6", "cpu_percent": 250}, ["CPUAffinity=2-3,6", "CPUQuota=250%"]),
        ({"memory_max": "2G", "nice": -5}, ["MemoryMax=2G", "Nice=-5"]),
        (
            {"writable": ("/var/log/%n", "/srv/x")},
            ['ReadWritePaths="/opt/router/state/service" "/var/log/%%n" "/srv/x"'],
        ),
    ],
)
def test_each_option_is_a_setting_of_systemd(options: dict[str, object], added: list[str]) -> None:
    assert lines(**options) == added


def test_without_the_sandbox_the_service_sees_the_host_as_it_is() -> None:
    unit = unit_file(given_to(sandbox=False), "router1").splitlines()
    assert not {line.partition("=")[0] for line in unit} & {
        line.partition("=")[0] for line in (*SANDBOX, "ReadWritePaths=")
    }
    assert "NoNewPrivileges=yes" in unit
    assert set(SANDBOX) <= set(unit_file(PLAIN, "router1").splitlines())


PRINTED = st.text(
    st.characters(exclude_categories=("Cs", "Cc"), exclude_characters="{}"), min_size=1, max_size=40
)


@settings(max_examples=100)
@given(PRINTED)
def test_any_value_is_one_value(value: str) -> None:
    (line,) = lines(environment={"A": value})
    key, _, word = line.partition("=")
    (read,) = shlex.split(word)  # it has the same two escapes
    assert (key, read.replace("%%", "%")) == ("Environment", f"A={value}")


def test_p1_another_option_is_another_unit_and_another_inventory() -> None:
    made = given_to(limits={"nofile": 1})
    assert (
        host_files(made, "router1", "d").unit_digest
        != host_files(PLAIN, "router1", "d").unit_digest
    )
    assert made.digest() != PLAIN.digest()


def test_the_preparation_knows_what_has_to_be_there_and_whether_homes_are_hidden() -> None:
    script = render_script(
        given_to(writable=("/var/log/{host}", "/srv/x")), "router1", "d", None, "n"
    )
    assert "WRITABLE='/var/log/router1\n/srv/x'\n" in script
    assert "SANDBOX=yes\n" in script
    assert "SANDBOX=''\n" in render_script(given_to(sandbox=False), "router1", "d", None, "n")


@pytest.mark.parametrize(
    ("shown", "found"),
    [
        (("JAVA_HOME=/jdk", "TZ"), []),
        (("JAVA_HOME=/jdk", "LANG", "TZ"), []),
        (("JAVA_HOME=/other", "TZ"), ["JAVA_HOME=/other"]),
        (("TZ",), ["it is not set"]),
        (("JAVA_HOME=/jdk",), ["it is not set"]),
        (("JAVA_HOME=/jdk", "LD_PRELOAD=/x", "TZ"), ["LD_PRELOAD=/x"]),
    ],
)
def test_p1_the_process_has_the_variables_of_the_unit_and_none_that_loads_other_code(
    shown: tuple[str, ...], found: list[str]
) -> None:
    running = good().shown.running
    assert running is not None
    evidence = but(good(), running=running.but(environment=shown))
    expected = replace(wanted(), environment=("JAVA_HOME=/jdk", "TZ=UTC"))
    assert [x.found for x in running_rule(expected, evidence) if x.level is Level.MISMATCH] == found
