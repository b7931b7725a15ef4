"""What the agent does about flags, over the port in memory and behind a real ``sshd``.

Any artifact is armed.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from deploytool.agent.record import Malformed
from deploytool.agent.requests import Answer, FlagStep, Locked, Request, Told
from deploytool.arming.table import Purpose
from deploytool.errors import FaultKind, HostFault
from deploytool.fleet.host import Host, Payload
from deploytool.fleet.inventory import load_inventory
from deploytool.fleet.remote import connect_fleet
from deploytool.fleet.sealed import BYTES_AT_MOST
from deploytool.registry.source import load_registry, table
from deploytool.rehearsal.arming import change
from deploytool.rehearsal.fleets.model import silent
from deploytool.rehearsal.fleets.ready import account, prepare
from deploytool.release.build import describe
from deploytool.simulation import fleet, program

from .sides import SHA, Real, back, claim
from .test_artifact import deploy

HERE = Path(__file__).parent
FLAG, BIT = "ICEBERG", 2
WIRE = "1f53b1c73e02eb477017b28321171845cdbfd847aabadb27cb181e69a3936e37"
TABLE = table(load_registry(HERE / "flagged.yaml"), WIRE)


@dataclass
class Flagged:
    """A host whose artifact has one runtime flag; ``bare`` is one that has no release.

    ``relink`` makes ``current`` lead elsewhere, or away with None; it gives where it led.
    """

    host: Host
    bare: Host
    relink: Callable[[str | None], str | None]


def _simulated() -> Flagged:
    rendered = fleet.Rendered.of(fleet.inventory(2, "process"))
    build = program.build("1.0", flags=TABLE)
    host = fleet.running("router1", rendered, *build)
    computer, current = host.computer, f"{host.root}/current"

    def relink(target: str | None) -> str | None:
        before = computer.find(current, follow=False)
        computer.remove(current)
        if target is not None:
            computer.link(current, target)
        return before.content.decode() if before is not None else None

    return Flagged(host, fleet.bare("router2", rendered), relink)


def _relink(current: Path, target: str | None) -> str | None:
    before = str(current.readlink()) if current.is_symlink() else None
    current.unlink(missing_ok=True)
    if target is not None:
        current.symlink_to(target)
    return before


@pytest.fixture(scope="module")
def flagged_fleet(shell_fleet: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two of the real hosts under a root of their own, with the script that has a flag."""
    said = yaml.safe_load(shell_fleet.read_text())
    folder = tmp_path_factory.mktemp("gateway")
    state = ["{state}"]
    said["release_root"] = said["release_root"].removesuffix("root") + "flagged"
    said["hosts"] = {host: said["hosts"][host] for host in ("router1", "router2")}
    said |= {"expect": 2, "waves": ["rest"], "config_files": []}
    said["service"] |= {
        "start": ["{current}/router", "serve", "{state}", "{fleet}", "{host}", "{signers}"],
        "flags": {
            "observe": ["{current}/router", "flag", "show", FLAG, *state],
            **{
                verb: ["{current}/router", "flag", verb, "{flag}", *state]
                for verb in ("prepare", "commit", "settle", "disarm")
            },
        },
    }
    gateway = [str(HERE / "gateway.sh"), str(folder)]
    said["gateway"] = {
        "use": [*gateway, "use", "{bit}", "{release}"],
        "withdraw": [*gateway, "withdraw", "{bit}"],
        "observe": [*gateway, "observe"],
    }
    said["membership"] = {"command": [*gateway, "membership"]}
    path = shell_fleet.with_name("flagged.yaml")
    path.write_text(yaml.safe_dump(said))
    identity = Path(str(load_inventory(path).ssh.identity_file))
    prepare(path, identity, account(), identity.with_suffix(".pub"), silent)
    (folder / "hosts").write_text("router1\nrouter2\n")
    (folder / "bits").touch()
    words: dict[str, Any] = {"name": "router", "version": "1.0", "version_line": None}
    script = HERE / "flagged.sh"
    release = describe(folder / "store", script, requires=("ssh-keygen",), flags=TABLE, **words)
    (folder / "release").write_text(release.digest)
    _, error = deploy(path, release)
    assert error is None, error
    return path


@pytest.fixture(params=["simulated", pytest.param("real", marks=pytest.mark.sshd)])
def flagged(request: pytest.FixtureRequest) -> Iterator[Flagged]:
    """Either kind; the flag is off."""
    if request.param == "simulated":
        yield _simulated()
        return
    path = request.getfixturevalue("flagged_fleet")
    hosts = connect_fleet(load_inventory(path))
    shells = load_inventory(request.getfixturevalue("shell_fleet"))
    other = connect_fleet(shells)
    Real(other["router3"], shells).reset()  # whatever an earlier test deployed there
    try:
        told(hosts["router1"], "disarm", flag=FLAG)
        current = Path(load_inventory(path).root("router1"), "current")
        relink = functools.partial(_relink, current)
        yield Flagged(hosts["router1"], other["router3"], relink)
    finally:
        told(hosts["router1"], "disarm", flag=FLAG)
        for host in (*hosts.values(), *other.values()):
            host.close()


def ask(host: Host, asks: Request, sent: bytes | None = None) -> Answer:
    payload = None if sent is None else Payload(len(sent), lambda: iter([sent]))
    return host.call(asks, deadline_s=30, payload=payload)


def told(
    host: Host, step: str, sent: bytes | None = None, **words: Any
) -> tuple[int | None, dict[str, Any], str]:
    """How the artifact's command ended, its answer, and its errors."""
    answer = ask(host, FlagStep(step=step, **words), sent)
    assert isinstance(answer, Told)
    said = answer.said
    return said.code, json.loads(said.answer or "{}"), said.errors.strip()


def refused(host: Host, asks: Request, sent: bytes | None = None) -> str:
    with pytest.raises(HostFault) as caught:
        ask(host, asks, sent)
    assert caught.value.kind is FaultKind.REFUSED
    assert caught.value.text
    return caught.value.code


def state(host: Host) -> str:
    (flag,) = [f for f in told(host, "observe")[1]["flags"] if f["name"] == FLAG]
    return str(flag["state"])


def test_a_nonce_is_asked_for_and_what_is_out_of_turn_is_refused_in_words(flagged: Flagged) -> None:
    host = flagged.host
    code, answer, errors = told(host, "observe")
    assert (code, answer["armed"], errors) == (0, [], "")
    code, answer, errors = told(host, "prepare", flag=FLAG, size=0)
    assert (code, errors) == (0, "")
    assert len(answer["nonce"]) == 64
    for verb, rule in (("commit", "NOT_PROMISED"), ("settle", "NOT_COMMITTED")):
        code, answer, errors = told(host, verb, flag=FLAG)
        assert (code, answer) == (3, {})
        assert errors.startswith(f"router: refused ({rule})")
    code, answer, errors = told(host, "prepare", b"not sealed\n", flag=FLAG, size=11)
    assert code == 3
    assert errors.startswith("router: refused (")
    assert told(host, "commit", flag="NOWHERE")[0] == 3
    assert told(host, "disarm", flag=FLAG)[:2] == (0, {"armed": []})
    assert state(host) == "off"


@pytest.mark.parametrize("step", ["prepare", "commit", "settle", "disarm"])
def test_a_step_names_a_flag_and_is_one_of_five(flagged: Flagged, step: str) -> None:
    assert refused(flagged.host, FlagStep(step=step)) == "bad-request"
    assert refused(flagged.host, FlagStep(step="arm", flag=FLAG)) == "bad-request"


@pytest.mark.parametrize("name", ["iceberg", "A;B", "A" * 33, "1A"])
def test_a_flag_is_a_word_of_a_narrow_alphabet(name: str) -> None:
    with pytest.raises(Malformed):
        FlagStep(step="commit", flag=name)


def test_a_certificate_is_bounded_and_whole(flagged: Flagged) -> None:
    host = flagged.host
    assert (
        refused(host, FlagStep(step="prepare", flag=FLAG, size=BYTES_AT_MOST + 1)) == "bad-request"
    )
    large = b"x" * BYTES_AT_MOST
    code, _, errors = told(host, "prepare", large, flag=FLAG, size=len(large))
    assert (code, errors.startswith("router: refused (")) == (3, True)
    assert state(host) == "off", "the next request is understood"


def test_p3_a_host_that_a_rollout_holds_arms_nothing_and_disarms_all_the_same(
    flagged: Flagged,
) -> None:
    host = flagged.host
    locked = ask(host, claim())
    assert isinstance(locked, Locked)
    try:
        assert refused(host, FlagStep(step="prepare", flag=FLAG, size=0)) == "changing"
        assert refused(host, FlagStep(step="prepare", flag=FLAG, size=3), b"abc") == "changing"
        assert refused(host, FlagStep(step="commit", flag=FLAG)) == "changing"
        assert refused(host, FlagStep(step="settle", flag=FLAG)) == "changing"
        assert told(host, "observe")[0] == 0
        assert told(host, "disarm", flag=FLAG)[0] == 0
    finally:
        ask(host, back(locked.token))
    assert told(host, "prepare", flag=FLAG, size=0)[0] == 0
    assert len(SHA) == 64


def test_a_host_without_a_release_says_so(flagged: Flagged) -> None:
    assert refused(flagged.bare, FlagStep(step="observe")) == "nothing-active"
    assert refused(flagged.bare, FlagStep(step="disarm", flag=FLAG)) == "nothing-active"


@pytest.mark.parametrize("broken", [None, f"releases/{SHA}"])
def test_p3_a_process_is_disarmed_also_where_the_link_to_its_release_is_broken(
    flagged: Flagged, broken: str | None
) -> None:
    whole = flagged.relink(broken)
    try:
        assert state(flagged.host) == "off"
        assert told(flagged.host, "disarm", flag=FLAG)[:2] == (0, {"armed": []})
    finally:
        flagged.relink(whole)


@pytest.mark.sshd
def test_p3_any_artifact_is_armed_and_disarmed(flagged_fleet: Path) -> None:
    """A shell script on real hosts, a shell script as the sender; certificates with a real key."""
    inventory = load_inventory(flagged_fleet)
    folder = Path((inventory.gateway or pytest.fail("no gateway")).use[1])
    armed = change(flagged_fleet, FLAG, Purpose.ARM)
    assert armed.exit_code == 0, str(armed)
    assert (folder / "bits").read_text() == str(BIT)
    assert (folder / "told").read_text() == (folder / "release").read_text()
    hosts = connect_fleet(inventory)
    try:
        assert {state(host) for host in hosts.values()} == {"armed"}
        off = change(flagged_fleet, FLAG, Purpose.DISARM)
        assert off.exit_code == 0, str(off)
        assert {state(host) for host in hosts.values()} == {"off"}
    finally:
        for host in hosts.values():
            host.close()
    assert (folder / "bits").read_text() == ""
