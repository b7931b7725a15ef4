"""The main job, as a user does it: eight hosts that have nothing, one command, proof."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import pytest

from deploytool.rehearsal.fleets.engine import named_engine
from deploytool.rehearsal.fleets.image import image_name
from deploytool.rehearsal.fleets.ready import wait_for_ssh

from .workstation import NAMES, NEW, OLD, ROOT, Look, Workstation, in_path, runs

pytestmark = pytest.mark.containers


def verdicts(document: dict[str, object]) -> list[tuple[str, str]]:
    hosts = document["hosts"]
    assert isinstance(hosts, list)
    return [(host["host"], host["verdict"]) for host in hosts]


def test_p1_first_deploy_to_eight_bare_hosts_is_proven_on_every_one(desk: Workstation) -> None:
    bare = desk.each(NAMES, lambda name: desk.seen_as_root(name).file(f"{ROOT}/current").exists)
    assert bare == dict.fromkeys(NAMES, False), "this file comes first: its hosts have nothing yet"

    nothing = desk.tool("status", "-i", desk.inventory, "--json")
    assert nothing.code == 5, nothing
    assert nothing.document["exit"] == 5

    built = desk.tool("release", "build", OLD, "--json")
    assert built.code == 0
    digest = built.document["manifest"]["sha256"]
    deployed = desk.tool("deploy", "-i", desk.inventory, OLD)
    assert deployed.code == 0, deployed

    status = desk.tool("status", "-i", desk.inventory, "--json")
    assert status.code == 0, status
    assert status.document["verdict"] == "PARITY"
    assert verdicts(status.document) == [(name, "MATCH") for name in NAMES]

    desk.each(NAMES, lambda name: ask_over_ssh(desk, name, digest))
    assert all(runs(look, digest) for look in desk.looks(NAMES).values())


def ask_over_ssh(desk: Workstation, name: str, digest: str) -> None:
    seen = desk.seen(name)
    assert seen.file(f"{ROOT}/current").linked_to == f"{ROOT}/releases/{digest}"
    assert seen.file(f"{ROOT}/current/router").sha256sum == digest
    assert seen.service("router").is_running
    assert seen.socket("tcp://0.0.0.0:7001").is_listening


def test_p1_second_deploy_replaces_every_process_and_a_third_is_a_no_op(desk: Workstation) -> None:
    before = desk.looks(NAMES)
    assert desk.tool("deploy", "-i", desk.inventory, OLD).code == 0
    assert desk.looks(NAMES) == before

    deployed = desk.tool("deploy", "-i", desk.inventory, NEW, "--json")
    assert deployed.code == 0, deployed
    assert verdicts(deployed.document) == [(name, "MATCH") for name in NAMES]
    after = desk.looks(NAMES)
    for name in NAMES:
        assert runs(after[name], desk.digest(NEW)), after[name]
        assert after[name]["start"] != before[name]["start"]
        assert after[name]["locked"] == "no"
    processes = desk.seen_as_root("router6").process.filter(user="router")
    assert [str(p.pid) for p in processes] == [after["router6"]["pid"]]

    again = desk.tool("deploy", "-i", desk.inventory, NEW, "--json")
    assert again.code == 0, again
    assert again.document["already"] is True
    assert desk.looks(NAMES) == after


def everything_on_disk(desk: Workstation, host: str) -> Look:
    """Every file that deploytool could touch, with its mode, owner, times and content.

    All but what each look leaves in ``state``: the agent's notes of what it hashed and of which
    releases it knows, and the folder's own time, since a look tries that a latch could be written.
    """
    notes = "service known digests"
    apart = " ".join(f"-path {ROOT}/state/{name} -prune -o" for name in notes.split())
    done = desk.seen_as_root(host).run(
        f"find {ROOT} /usr/local /etc/systemd /etc/sudoers.d {apart} -path {ROOT}/state -o "
        r"-printf '%p %m %U %G %T@ %i %l\n'; find /opt/router/releases -type f | xargs sha256sum"
    )
    assert done.rc == 0
    return {"files": done.stdout, **desk.look(host)}


def test_plan_changes_nothing_and_a_plan_that_the_fleet_has_left_behind_is_refused(
    desk: Workstation,
) -> None:
    assert desk.tool("deploy", "-i", desk.inventory, NEW).code == 0
    before = desk.each(NAMES, lambda name: everything_on_disk(desk, name))
    planned = desk.tool("plan", "-i", desk.inventory, OLD, "--out", "plan.json", "--json")
    assert planned.code == 0, planned
    assert len(planned.document["plan"]["hosts"]) == 8
    assert desk.each(NAMES, lambda name: everything_on_disk(desk, name)) == before

    desk.root("router5", "systemctl restart router")
    moved = desk.looks(NAMES)
    refused = desk.tool("deploy", "-i", desk.inventory, OLD, "--plan", "plan.json", "--json")
    assert refused.code == 3, refused
    assert refused.document["rule"] == "PLAN_MOVED"
    assert [line.split(":")[0] for line in refused.document["details"]] == ["router5"]
    assert desk.looks(NAMES) == moved

    other = json.loads((desk.folder / "plan.json").read_text())
    other["fleet"] = "another"
    (desk.folder / "other.json").write_text(json.dumps(other))
    assert desk.tool("deploy", "-i", desk.inventory, OLD, "--plan", "other.json").code == 3
    assert desk.tool("deploy", "-i", desk.inventory, OLD, "--plan", "none.json").code == 2
    assert desk.looks(NAMES) == moved

    fresh = desk.tool("plan", "-i", desk.inventory, OLD, "--out", "plan.json")
    assert fresh.code == 0, fresh
    done = desk.tool("deploy", "-i", desk.inventory, OLD, "--plan", "plan.json")
    assert done.code == 0, done
    assert all(runs(look, desk.digest(OLD)) for look in desk.looks(NAMES).values())


def test_a_dead_host_is_replaced_by_a_bare_one_of_the_same_name(desk: Workstation) -> None:
    """P2 while it is dead, a refusal while its key is unknown, and then the first deploy to it."""
    dead = "router8"
    assert desk.tool("deploy", "-i", desk.inventory, OLD).code == 0
    alive = desk.looks(tuple(name for name in NAMES if name != dead))
    engine = named_engine(desk.record.engine or "")
    machine = desk.root(dead, "cat /etc/machine-id")
    engine.do("rm", "--force", "--time", "0", desk.container(dead))
    hasty = desk.write_inventory("hasty.yaml", list(NAMES), ssh={"connect_timeout_s": 3})
    status = desk.tool("status", "-i", hasty, "--json")
    assert status.code == 5, status
    assert [row for row in verdicts(status.document) if row[1] != "MATCH"] == [(dead, "UNKNOWN")]

    new_key = start_bare_host(desk, dead)
    assert desk.root(dead, "cat /etc/machine-id") != machine
    for command in (["status", "-i", desk.inventory], ["deploy", "-i", desk.inventory, OLD]):
        refused = desk.tool(*command)
        assert refused.code in {3, 5}, refused
        assert f"{dead}: " in refused.err
        assert "host key" in refused.err
    unprepared = desk.prepare("-i", desk.inventory, "--host", dead)
    assert unprepared.code == 5, unprepared
    assert "CHANGED" in unprepared.err

    pin_by_hand(desk.containers.folder / "known_hosts", desk.address(dead), new_key)
    bare = desk.tool("deploy", "-i", desk.inventory, OLD)
    assert bare.code == 3, bare
    assert f"{dead}: " in bare.err
    assert not desk.seen_as_root(dead).file(f"{ROOT}/releases").exists
    strange = desk.prepare("-i", desk.inventory, "--host", dead)
    assert strange.code == 5, strange
    assert f"{dead} is another machine" in strange.err
    admin = ("--admin", "root", "--admin-key", desk.containers.folder / "admin_ed25519")
    left = desk.tool("host", "retire", dead, "-i", desk.inventory, "--gone", *admin)
    assert left.code == 0, left
    prepared = desk.prepare("-i", desk.inventory, "--host", dead)
    assert prepared.code == 0, prepared
    deployed = desk.tool("deploy", "-i", desk.inventory, OLD)
    assert deployed.code == 0, deployed
    assert runs(desk.look(dead), desk.digest(OLD))
    assert desk.looks(tuple(alive)) == alive


def start_bare_host(desk: Workstation, name: str) -> str:
    """A new machine at the same address; root lets the admin in. Gives its public host key."""
    record = desk.record
    named_engine(record.engine or "").start(
        *(record.id, desk.container(name), name),
        *(record.network or "", desk.address(name), image_name()),
    )
    admin = (desk.containers.folder / "admin_ed25519.pub").read_text().strip()
    config = desk.root("router1", f"cat {ROOT}/etc/router.json")
    desk.root(
        name,
        f"""
        mkdir -p -m 0700 /root/.ssh {ROOT}/etc; chmod 755 {ROOT} {ROOT}/etc
        echo '{admin}' > /root/.ssh/authorized_keys
        cat > {ROOT}/etc/router.json <<'END'
{config.rstrip()}
END
        until systemctl is-active ssh >/dev/null; do sleep 0.1; done""",
    )
    # The old machine's hardware address is remembered for a while, and this one says no word.
    flush = [in_path("ip"), "neigh", "flush", "to", desk.address(name)]
    subprocess.run(flush, check=True, capture_output=True, timeout=20)
    wait_for_ssh(name, desk.address(name), 22, 60)
    return desk.root(name, "cat /etc/ssh/ssh_host_*_key.pub")


def pin_by_hand(known_hosts: Path, address: str, keys: str) -> None:
    """What a person does at the console of the new machine."""
    kept = [line for line in known_hosts.read_text().splitlines() if line.split()[0] != address]
    kept += [f"{address} {' '.join(key.split()[:2])}" for key in keys.splitlines()]
    known_hosts.write_text("\n".join(kept) + "\n")


def test_programs_that_these_tests_need_are_here() -> None:
    lacking = [p for p in ("ssh", "nsenter") if shutil.which(p) is None]
    assert lacking == []
