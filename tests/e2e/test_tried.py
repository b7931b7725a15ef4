"""A host is called prepared once its deploy account has been in and has asked its agent.

What stands in the way is named by its cause, and doing what the line says leads out.
"""

from __future__ import annotations

import pytest
import yaml

from .workstation import ROOT, Workstation

pytestmark = pytest.mark.containers
_HOST = "router8"
_SSHD = "/etc/ssh/sshd_config.d/00-test.conf"
_LATE = "/etc/sudoers.d/zz-late"


@pytest.mark.parametrize(
    ("planted", "undone", "named"),
    [
        ("touch /etc/nologin", "rm /etc/nologin", "/etc/nologin is there"),
        ("chage -E 1 deploy", "chage --expiredate -1 deploy", "chage --expiredate -1 deploy"),
        (
            "usermod -s /usr/sbin/nologin deploy",
            "usermod --shell /bin/sh deploy",
            "usermod --shell /bin/sh deploy",
        ),
        (
            "chmod 777 /home/deploy",
            "chmod go-w /home/deploy",
            "StrictModes yes: chmod go-w /home/deploy",
        ),
        (
            f"echo DenyUsers deploy >{_SSHD}; systemctl reload ssh",
            f"rm {_SSHD}; systemctl reload ssh",
            "sshd has denyusers deploy",
        ),
        (
            f"echo 'deploy ALL=(root) PASSWD: ALL' >{_LATE}",
            f"rm {_LATE}",
            f"{_LATE} comes after /etc/sudoers.d/deploytool-router, and its line wins",
        ),
        (
            "sed -i s/^@includedir/#@x/ /etc/sudoers",
            "sed -i s/^#@x/@includedir/ /etc/sudoers",
            "/etc/sudoers has no line @includedir /etc/sudoers.d",
        ),
    ],
    ids=["nologin", "expired", "shell", "modes", "denied", "later-rule", "no-include"],
)
def test_what_keeps_the_deploy_account_out_is_named_by_its_cause(
    desk: Workstation, planted: str, undone: str, named: str
) -> None:
    desk.root(_HOST, planted)
    try:
        ended = desk.prepare("-i", desk.inventory, "--host", _HOST)
    finally:
        desk.root(_HOST, undone)
    assert ended.code == 5, ended
    assert "all is in place, and deploy can't use it" in ended.err
    assert named in ended.err
    again = desk.prepare("-i", desk.inventory, "--host", _HOST)
    assert again.code == 0, again


def test_a_dry_run_names_what_the_next_run_changes_and_changes_nothing(desk: Workstation) -> None:
    lock, agent = f"{ROOT}/state/probe.lock", "/usr/local/libexec/deploytool/router/helper"
    desk.root(
        _HOST, f"rm {lock}; chmod 0700 {agent}; echo '# x' >>/etc/sudoers.d/deploytool-router"
    )
    prepare = ("-i", desk.inventory, "--host", _HOST)
    changes = f"rights of {agent}, {lock}, /etc/sudoers.d/deploytool-router"
    first, second = (desk.prepare(*prepare, "--dry-run") for _ in range(2))
    assert first.code == second.code == 0, (first, second)
    for said in (first.out, second.out):
        assert f"{_HOST}: would change: " in said
        assert set(changes.split(", ")) == set(
            said.partition("would change: ")[2].splitlines()[0].split(", ")
        )
    done = desk.prepare(*prepare)
    assert done.code == 0, done
    assert "prepared; changed: " in done.out
    assert "would change: nothing" in desk.prepare(*prepare, "--dry-run").out
    document = desk.prepare(*prepare, "--dry-run", "--json").document
    assert (document["dry_run"], document["changed"]) == (True, {_HOST: []})


def test_a_second_fleet_is_refused_by_the_name_of_the_first(desk: Workstation) -> None:
    before = desk.root(_HOST, "cd / && find etc usr/local opt home -newer /proc/1 | sort | cksum")
    path = desk.write_inventory("second.yaml", [_HOST], fleet="second", waves=["rest"])
    first = yaml.safe_load(desk.inventory.read_text())["fleet"]
    service = yaml.safe_load(path.read_text())
    assert f"is of the fleet {first}" in desk.prepare("-i", path).err
    service["service"]["name"] = "another"
    path.write_text(yaml.safe_dump(service, sort_keys=False))
    ended = desk.prepare("-i", path)
    assert ended.code == 5, ended
    assert f"{ROOT} is the folder of router, of the fleet {first}" in ended.err
    after = desk.root(_HOST, "cd / && find etc usr/local opt home -newer /proc/1 | sort | cksum")
    assert after == before


def test_a_purge_takes_away_what_preparations_made_and_goes_on_where_it_broke_off(
    desk: Workstation,
) -> None:
    """What was there before stays: a file of another's in a folder that a preparation made."""
    admin = ("--admin", "root", "--admin-key", desk.containers.folder / "admin_ed25519")
    purge = ("host", "retire", _HOST, "-i", desk.inventory, "--purge", *admin)
    theirs = "/usr/local/libexec/theirs"
    desk.root(_HOST, f"touch {theirs}")
    there = (
        "for path in /etc/sudoers.d/deploytool-router /usr/local/lib/systemd/system/router.service "
        f"/usr/local/libexec/deploytool {ROOT}/releases {ROOT}/state /home/deploy; do "
        "[ ! -e $path ] || echo $path; done; getent passwd deploy router || true"
    )
    assert len(desk.root(_HOST, there).splitlines()) == 8
    desk.root(_HOST, "su -s /bin/sh router -c 'sleep 300 >/dev/null 2>&1 & echo $!' >/tmp/pid")
    broken = desk.tool(*purge)
    assert broken.code == 5, broken
    assert "NOT purged" in broken.err
    assert "the account router can't be removed" in broken.err
    desk.root(_HOST, "kill -KILL $(cat /tmp/pid)")
    done = desk.tool(*purge)
    assert done.code == 0, done
    assert "removed account deploy" in done.out
    assert desk.root(_HOST, there) == ""
    desk.root(_HOST, f"rm {theirs}")  # fails where it is gone
    again = desk.prepare("-i", desk.inventory, "--host", _HOST)
    assert again.code == 0, again
