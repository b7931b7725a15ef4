"""An inventory as a stop reads it: leniently, and without a way into a command line."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from deploytool.agent.requests import Halt
from deploytool.errors import InputError
from deploytool.fleet.inventory import load_inventory, parse_inventory
from deploytool.fleet.prepared import invocation
from deploytool.stop.escalation import call_of
from deploytool.stop.model import End, Heard, HostOutcome, Own, Rung, StopRequest, Witnessed
from deploytool.stop.outcome import StopOutcome, conclude, make_row
from deploytool.stop.targets import StopTargets, read_targets

EXAMPLE = Path(__file__).parents[3] / "inventories" / "example.yaml"


def altered(tmp_path: Path, **changes: Any) -> Path:
    said = yaml.safe_load(EXAMPLE.read_text())
    for path, value in changes.items():
        at = said
        *parents, last = path.split("__")
        for key in parents:
            at = at[key]
        at[last] = value
    tmp_path.mkdir(exist_ok=True)
    place = tmp_path / "inventory.yaml"
    place.write_text(yaml.safe_dump(said))
    return place


def configured(argv: tuple[str, ...]) -> list[str]:
    """The lines of the configuration that a client is given."""
    return Path(argv[argv.index("-F") + 1]).read_text().splitlines()


def test_it_says_what_the_strict_reader_says(tmp_path: Path) -> None:
    path = altered(tmp_path, hosts__router2__port=2222, hosts__router2__user="else")
    (tmp_path / "known_hosts").mkdir()
    (tmp_path / "known_hosts" / "example").touch()
    (tmp_path / "signers").mkdir(exist_ok=True)
    card = read_targets(path)
    said = yaml.safe_load(path.read_text())
    assert card.names == tuple(sorted(said["hosts"]))
    two = next(t.argv for t in card.targets if t.host == "router2")
    assert two[two.index("-p") + 1] == "2222"
    assert two[two.index("-l") + 1] == "else"
    assert two[-2] == said["hosts"]["router2"]["address"]
    assert two[-3] == "--"
    told = configured(two)
    assert f"UserKnownHostsFile {tmp_path}/known_hosts/example" in told
    assert "StrictHostKeyChecking yes" in told


def test_the_helper_is_the_one_that_every_other_command_runs() -> None:
    inventory = parse_inventory(EXAMPLE.read_text(), "example.yaml")
    for target in read_targets(EXAMPLE).targets:
        assert target.argv[-1] == invocation(inventory, target.host)


@pytest.mark.parametrize(
    "mistake",
    [{"expect": 3}, {"waves": "soon"}, {"service__status": None}, {"keep_releases": -1}],
    ids=lambda mistake: next(iter(mistake)),
)
def test_p6_a_mistake_elsewhere_keeps_nobody_from_stopping(
    tmp_path: Path, mistake: dict[str, Any]
) -> None:
    path = altered(tmp_path, **mistake)
    with pytest.raises(InputError):
        load_inventory(path)
    assert len(read_targets(path).targets) == 8


def _proven(card: StopTargets) -> StopOutcome:
    """Every host that was read says that it stopped, and the witness saw the silence."""
    order = StopRequest("me@here", "runaway", "ab", 1000.0)
    none = dict.fromkeys(card.names)
    first = Witnessed(1002.0, 1002.0, 1002.1, none)
    heard = Heard((first, Witnessed(1003.0, 1003.0, 1003.1, none)))
    own = Own(1000.9, 1001.0, 0, 60.0, None, None)
    rows = (
        make_row(
            HostOutcome(host, End.HALTED, 1.0, own=own), order, heard, (0.0, None, False), 1003.0
        )
        for host in card.names
    )
    return StopOutcome(order, tuple(rows), "", doubt=card.doubt)


def test_p2_p6_a_host_that_was_not_read_is_not_said_to_have_stopped(tmp_path: Path) -> None:
    assert conclude(_proven(read_targets(altered(tmp_path))), "fleet.yaml") is None
    twice = altered(tmp_path)
    twice.write_text(twice.read_text().replace("router7:", "router6:"))
    wrong = (twice, *(altered(tmp_path / f"{n}", expect=n) for n in (9, None, True)))
    for path in wrong:
        card = read_targets(path)
        assert card.targets, "whatever can be read is stopped"
        error = conclude(_proven(card), "fleet.yaml")
        assert error is not None, path
        assert (error.exit_code, "expects" in error.what) == (6, True)


@pytest.mark.parametrize(
    "wrong",
    [
        {"service__name": "router; reboot"},
        {"release_root": "/opt/$(reboot)"},
        {"hosts": {}},
        {"ssh": None},
        {"service__supervisor": "none"},
    ],
    ids=lambda wrong: next(iter(wrong)),
)
def test_what_would_end_up_in_a_command_line_is_checked(
    tmp_path: Path, wrong: dict[str, Any]
) -> None:
    with pytest.raises(InputError) as caught:
        read_targets(altered(tmp_path, **wrong))
    assert "NOTHING WAS STOPPED" in caught.value.means


@pytest.mark.parametrize(
    "wrong",
    [
        {"address": "-oProxyCommand=touch /tmp/x"},
        {"address": "a b"},
        {"address": "192.0.2.1", "user": "-x"},
        {"address": "192.0.2.1", "port": "ssh"},
        {"addres": "192.0.2.1"},
        "192.0.2.1",
        None,
    ],
    ids=str,
)
def test_p6_a_mistake_in_one_host_s_entry_costs_that_host_alone(
    tmp_path: Path, wrong: object
) -> None:
    card = read_targets(altered(tmp_path, hosts__router3=wrong))
    assert len(card.targets) == 7
    assert list(card.unfit) == ["router3"]
    assert card.names == tuple(f"router{n}" for n in range(1, 9))


def test_p6_a_host_that_is_declared_twice_is_told_twice(tmp_path: Path) -> None:
    path = altered(tmp_path)
    first = "  router3: {address: 198.51.100.7}\n"
    path.write_text(path.read_text().replace("  router3:\n", f"{first}  router3:\n"))
    card = read_targets(path)
    twice = {t.host: t.argv[-2] for t in card.targets if t.host.startswith("router3")}
    assert sorted(twice.values()) == ["192.0.2.13", "198.51.100.7"]
    assert card.shown["router3"] == tuple(sorted(twice))
    whole = path.read_text() + "hosts:\n  router9: {address: 198.51.100.9}\n"
    path.write_text(whole)
    addresses = {target.argv[-2] for target in read_targets(path).targets}
    assert {"192.0.2.11", "198.51.100.7", "198.51.100.9"} <= addresses


def test_p6_a_host_whose_name_is_a_number_is_a_host(tmp_path: Path) -> None:
    card = read_targets(altered(tmp_path, hosts={1: {"address": "192.0.2.1"}}))
    assert card.names == ("1",)


@pytest.mark.parametrize("odd", [float("inf"), float("nan"), -1, 10**400, True, "ten", None, []])
def test_p6_a_number_that_can_t_be_one_crashes_nobody(tmp_path: Path, odd: object) -> None:
    silence = {"command": ["true"], "timeout_s": odd}
    card = read_targets(altered(tmp_path, lease_s=odd, silence=silence))
    assert card.lease_s == 0.0, "no instant is named then"
    assert card.silence_s == 5.0


def test_p6_without_a_home_a_stop_goes_on(tmp_path: Path) -> None:
    card = read_targets(altered(tmp_path, ssh__identity_file="~no-such-account/.ssh/id"))
    assert "IdentityFile=/dev/null" in card.targets[0].argv


def test_where_the_first_way_leads_nowhere_there_is_one_past_the_person_s_own(
    tmp_path: Path,
) -> None:
    card = read_targets(altered(tmp_path, ssh__identity_file="id"))
    target = card.targets[0]
    assert "Include ~/.ssh/config" in configured(target.argv)
    assert target.spare[target.spare.index("-F") + 1] == "none"
    assert "IdentityAgent=none" in target.spare
    named = altered(tmp_path, ssh__identity_file=None, ssh__config_file="ours")
    target = read_targets(named).targets[0]
    assert target.spare == target.argv, "the inventory names what it needs"


def test_a_stop_imports_nothing_that_is_slow_or_that_the_rest_may_break_on() -> None:
    code = (
        "import sys; from deploytool.stop import runner, watch_client; "
        "from deploytool.cli import stopnow; "
        "print(*sorted({m.partition('.')[0] for m in sys.modules}))"
    )
    loaded = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout.split()
    heavy = {"typer", "click", "rich", "pydantic", "fabric", "paramiko", "invoke", "cryptography"}
    assert not heavy & set(loaded)


def test_the_warm_way_reads_no_inventory() -> None:
    code = "import sys; from deploytool.cli import stopnow; print(*sys.modules)"
    loaded = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout.split()
    assert not {"yaml", "subprocess", "dataclasses", "typing", "argparse"} & set(loaded)


def test_p6_a_stop_says_whom_it_is_for_where_that_is_known() -> None:
    order = StopRequest("me@here", "runaway", "ab", 1000.0)
    assert order.to(("router1", "router2,2", "router2")).hosts == "router1 router2"
    assert order.to(f"router{n}" for n in range(1000)).hosts == ""
    only = StopRequest("me@here", "runaway", "ab", 1000.0, "2a")
    assert only.to(("router1",)).hosts == "", "who runs that release, the hosts alone know"
    asked = call_of(Rung.QUIESCE, order.to(("router1",)))
    assert isinstance(asked, Halt)
    assert asked.hosts == "router1"
