"""Faults that strike while a deployment is under way: undone and proven, or named.

Exit 4 is a promise about all hosts, so an independent witness looks at all of them.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from .conftest import MARKER, Trio
from .workstation import BROKEN, NEW, OLD, ROOT, Ended, Workstation, doing

pytestmark = pytest.mark.containers
AGENT = "^[^ ]*python3 -I -S -B -X utf8 -c"
"""How the agent's process begins, and the router's does not (it has ``-IS``)."""


@pytest.fixture(scope="module")
def hasty(desk: Workstation) -> Path:
    """The trio, for an operator who does not wait long."""
    ssh = {"connect_timeout_s": 3, "command_timeout_s": 6, "transfer_timeout_s": 4}
    return desk.write_inventory("hasty-trio.yaml", list(Trio.names), waves=[1, "rest"], ssh=ssh)


@contextmanager
def own_releases(trio: Trio, *options: str) -> Iterator[None]:
    """Gives the victim a file system of its own under ``releases``, with what was there."""
    desk, releases = trio.desk, f"{ROOT}/releases"
    trio.hurt(f"rm -rf /tmp/kept; cp -a {releases} /tmp/kept")
    options = ("-o", ",".join(["mode=755", "size=64m", *options]))
    desk.from_outside(trio.victim, "mount", "-t", "tmpfs", *options, "tmpfs", releases)
    try:
        trio.hurt(f"cp -a /tmp/kept/. {releases}/")
        yield
    finally:
        trio.desk.from_outside(trio.victim, "umount", releases)


def recover(trio: Trio, failed: Ended) -> None:
    """A rollout that was held is undone by the command that its end names, and by it alone."""
    refused = trio.deploy(NEW)
    assert refused.code == 3, refused
    undone = trio.desk.paste(failed)
    assert undone.argv[0] == "rollback"
    assert undone.code == 0, undone
    assert trio.all_run(OLD)
    assert all(look["locked"] == "no" for look in trio.looks().values())
    assert trio.status().code == 0


def without_new(trio: Trio) -> None:
    """Forgets the new release on the victim, so that it has to be copied there."""
    trio.hurt(f"rm -rf {ROOT}/releases/{trio.desk.digest(NEW)}")


def test_p1_a_disk_that_is_read_only_leaves_every_host_on_the_old_release(trio: Trio) -> None:
    without_new(trio)
    before = trio.looks()
    with own_releases(trio):
        remount = ("mount", "-o", "remount,ro", f"{ROOT}/releases")
        trio.desk.from_outside(trio.victim, *remount)
        failed = trio.deploy()
        assert failed.code == 4, failed
        assert f"{trio.victim}: " in failed.err
        assert "can't be written" in failed.err
        assert trio.looks() == before
    assert trio.looks() == before


def test_p1_a_disk_that_is_full_leaves_every_host_on_the_old_release(trio: Trio) -> None:
    """No inode is left: free space, which preflight sees, does not tell."""
    without_new(trio)
    before = trio.looks()
    files = int(trio.hurt(f"find {ROOT}/releases | wc -l"))
    with own_releases(trio, f"nr_inodes={files + 2}"):
        failed = trio.deploy()
        assert failed.code == 4, failed
        assert f"{trio.victim}: " in failed.err
        assert trio.looks() == before
        assert not trio.hurt(f"ls -A {ROOT}/releases | grep incoming || true")


def test_p1_a_build_that_does_not_start_on_one_host_is_brought_back_on_all(trio: Trio) -> None:
    """The canary had it running already, when another host of the next wave failed."""
    before = trio.looks()
    trio.hurt(f"touch {MARKER}")
    failed = trio.deploy(BROKEN)
    assert failed.code == 4, failed
    assert f"{trio.victim}: " in failed.err
    assert trio.all_run(OLD)
    after = trio.looks()
    for host in trio.names:
        assert after[host]["start"] != before[host]["start"]
        assert after[host]["locked"] == "no"
    status = trio.status()
    assert status.code == 0, status
    trio.hurt(f"rm {MARKER}")


def test_p1_a_build_that_does_not_start_on_the_canary_reaches_no_other_host(trio: Trio) -> None:
    before = trio.looks()
    canary, *rest = trio.names
    trio.desk.root(canary, f"touch {MARKER}")
    failed = trio.deploy(BROKEN)
    trio.desk.root(canary, f"rm {MARKER}")
    assert failed.code == 4, failed
    assert f"{canary}: " in failed.err
    assert trio.all_run(OLD)
    assert {host: trio.look(host) for host in rest} == {host: before[host] for host in rest}


def test_p1_an_old_process_that_survives_the_restart_is_named(trio: Trio) -> None:
    """It left the service's group before the switch; what can't be undone is never called well."""
    new, old = trio.desk.digest(NEW), trio.desk.digest(OLD)
    survivor = f"""
        until [ "$(readlink {ROOT}/current)" = releases/{new} ]; do sleep 0.01; done
        mkdir -p /tmp/old; chown router: /tmp/old
        setsid setpriv --reuid=router --regid=router --clear-groups {ROOT}/releases/{old}/router \
            serve --state /tmp/old --config {ROOT}/etc/router.json --listen 0.0.0.0:7998 \
            --host {trio.victim} >/dev/null 2>&1 </dev/null &"""
    with doing(lambda: trio.hurt(survivor)):
        failed = trio.deploy()
    assert failed.code == 5, failed
    named = [line for line in failed.err.splitlines() if line.startswith(f"  {trio.victim}: ")]
    assert any("running code" in line and "process" in line for line in named), failed
    assert trio.status().code == 5
    trio.hurt("pkill -f '[r]outer serve.*/tmp/old'")
    recover(trio, failed)


def test_p1_a_host_that_hangs_while_it_is_switched_is_named_in_time(
    trio: Trio, hasty: Path
) -> None:
    new = trio.desk.digest(NEW)
    switched = f'until [ "$(readlink {ROOT}/current)" = releases/{new} ]; do :; done'

    def hang() -> None:
        trio.hurt(switched)
        trio.desk.containers.pause(trio.victim)

    try:
        with doing(hang):
            failed = trio.desk.tool("deploy", "-i", hasty, NEW)
    finally:
        trio.desk.containers.unpause(trio.victim)
    assert failed.code == 5, failed
    assert failed.took_s < 90
    assert f"  {trio.victim}: " in failed.err
    recover(trio, failed)


def test_p1_an_agent_that_hangs_while_staging_is_named_and_nothing_is_switched(
    trio: Trio, hasty: Path
) -> None:
    without_new(trio)
    before = trio.looks()
    incoming = f"{ROOT}/releases/.incoming.{trio.desk.digest(NEW)}.*"
    # The request names the verb on standard input only; whoever holds the mutex is staging.
    stop = f"""
        until [ -d {incoming} ]; do :; done
        pkill -STOP -f '{AGENT}'"""
    try:
        with doing(lambda: trio.hurt(stop)):
            failed = trio.desk.tool("deploy", "-i", hasty, NEW)
    finally:
        trio.hurt(f"pkill -KILL -f '{AGENT}' || true; rm -rf {incoming}")
    assert failed.code in {4, 5}, failed
    assert failed.took_s < 60, failed
    assert f"  {trio.victim}: " in failed.err
    after = trio.looks()
    for host in trio.names:
        assert {**after[host], "locked": ""} == {**before[host], "locked": ""}
    locked = [host for host, look in after.items() if look["locked"] != "no"]
    if failed.code == 4:
        assert locked == []
    elif locked:
        recover(trio, failed)
    else:  # it hung with the new release's process still there, which no one has verified
        assert "is not in parity now: UNKNOWN" in failed.err, failed
        assert trio.desk.paste(failed).code == 0, "that process has been killed"


def test_p1_a_shell_that_prints_noise_changes_nothing_about_the_answer(trio: Trio) -> None:
    noisy = """
        cat >/usr/local/bin/noisy <<'END'
#!/bin/sh
printf 'Welcome!\\ndeploytool 00 begin\\ncurrent releases/0000\\ndeploytool 00 end ok\\n'
echo 'mind the gap' >&2
/bin/sh "$@"
code=$?
printf 'no newline before: bye\\ndeploytool 00 end refused x y'
exit $code
END
        chmod 755 /usr/local/bin/noisy
        usermod --shell /usr/local/bin/noisy deploy"""
    trio.hurt(noisy)
    try:
        deployed = trio.deploy()
        assert deployed.code == 0, deployed
        assert trio.all_run(NEW)
        assert trio.status().code == 0
    finally:
        trio.hurt("usermod --shell /bin/sh deploy")


def test_of_two_deployers_at_once_one_wins_and_the_other_is_refused(trio: Trio) -> None:
    first = trio.desk.begin("deploy", "-i", trio.inventory, NEW)
    second = trio.desk.begin("deploy", "-i", trio.inventory, BROKEN)
    said = [process.communicate(timeout=90)[0] for process in (first, second)]
    codes = [first.returncode, second.returncode]
    assert sorted(codes) == [0, 3], said
    assert trio.all_run(NEW if codes[0] == 0 else BROKEN)
    loser = said[codes.index(3)]
    assert "lock" in loser.lower() or "PLAN_MOVED" in loser, loser
