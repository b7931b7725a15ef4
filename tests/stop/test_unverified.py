"""Without a usable known_hosts a halt is sent all the same, and no answer is believed (P6)."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from deploytool.stop.targets import read_targets, unverified

from .conftest import HOSTS, Desk, Ended

pytestmark = pytest.mark.sshd


def missing(_path: Path) -> None:
    """No file at all."""


def folder(path: Path) -> None:
    path.mkdir()


def empty(path: Path) -> None:
    path.touch()


def binary(path: Path) -> None:
    path.write_bytes(bytes(range(256)) * 8)


def cut_off(path: Path) -> None:
    path.write_text("[127.0.0.1]:22 ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAI\n")


def inventory_with(desk: Desk, name: str) -> Path:
    """The inventory, with its pinned keys in another file."""
    text = Path(desk.inventory).read_text()
    path = desk.fleet.folder / "unpinned.yaml"
    path.write_text(text.replace("known_hosts: known_hosts", f"known_hosts: {name}"))
    assert path.read_text() != text
    return path


def stop(desk: Desk, inventory: Path) -> Ended:
    reason = "a secret reason"
    return desk.tool("stop", "-i", str(inventory), "--all", "--json", "--reason", reason)


def test_p6_without_pinned_keys_hosts_are_told_and_not_believed(desk: Desk) -> None:
    for spoil in (missing, folder, empty, binary, cut_off):
        for host in HOSTS:
            (desk.root(host) / "state" / "halted").unlink(missing_ok=True)
        place = desk.fleet.folder / f"pins {spoil.__name__}"
        spoil(place)
        ended = stop(desk, inventory_with(desk, f"'{place.name}'"))
        assert ended.code == 6
        for host in HOSTS:
            assert desk.latch(host) is not None, "it was told"
            mark = (desk.root(host) / "state" / "halted").read_text()
            assert ended.document["latch"] in mark, spoil
            assert "secret" not in mark, "whoever answers is not told why"
            row = ended.row(host)
            assert (row["end"], row["stopped"], row["silent"]) == ("NOT SHOWN", False, False), row
            assert "host key was not verified" in row["notes"][0]
            assert row["how"].startswith("unverified: "), row
        assert "NOT confirmed" in ended.err or "NOT shown" in ended.err
        assert str(place) in ended.err


def test_p6_one_damaged_line_costs_the_proof_of_its_host_alone(desk: Desk) -> None:
    """And a key that is another than the pinned one is refused also then."""
    damaged, changed, _ = lines = (desk.fleet.folder / "known_hosts").read_text().splitlines()
    name = changed.split(" ", 1)[0]
    other = lines[2].split(" ", 1)[1]
    place = desk.fleet.folder / "damaged"
    place.write_text("\n".join([damaged[:-9], f"{name} {other}", lines[2], ""]))
    ended = stop(desk, inventory_with(desk, "damaged"))
    assert ended.code == 6
    ends = [ended.row(host)["end"] for host in HOSTS]
    assert ends == ["NOT SHOWN", "OUT OF REACH", "HALTED"], ended
    told = [desk.latch(host) is not None for host in HOSTS]
    assert told == [True, False, True], "a changed key is told nothing"


def test_p6_a_host_that_a_sound_file_does_not_pin_is_told_nothing(desk: Desk) -> None:
    lines = (desk.fleet.folder / "known_hosts").read_text().splitlines()
    (desk.fleet.folder / "two").write_text("\n".join([*lines[:2], ""]))
    ended = stop(desk, inventory_with(desk, "two"))
    assert [ended.row(host)["end"] for host in HOSTS] == ["HALTED", "HALTED", "OUT OF REACH"]
    assert desk.latch(HOSTS[2]) is None


GENEROUS = """\
Host *
  PasswordAuthentication yes
  KbdInteractiveAuthentication yes
  HostbasedAuthentication yes
  GSSAPIAuthentication yes
  ForwardAgent yes
  ForwardX11 yes
  Tunnel yes
  AddKeysToAgent yes
  IdentitiesOnly no
  LocalForward 9999 localhost:1
  RemoteForward 9998 localhost:1
  StrictHostKeyChecking yes
  VerifyHostKeyDNS yes
"""
NOTHING: dict[str, str] = {
    "passwordauthentication": "no",
    "kbdinteractiveauthentication": "no",
    "hostbasedauthentication": "no",
    "gssapiauthentication": "no",
    "forwardagent": "no",
    "forwardx11": "no",
    "tunnel": "false",
    "addkeystoagent": "false",
    "identitiesonly": "yes",
    "clearallforwardings": "yes",
    "preferredauthentications": "publickey",
    "batchmode": "yes",
    "userknownhostsfile": "/dev/null",
    "stricthostkeychecking": "false",
    "verifyhostkeydns": "false",
    "updatehostkeys": "false",
    "controlmaster": "false",
}


@pytest.mark.parametrize("of", [lambda t: t.argv, lambda t: t.spare], ids=["first", "second"])
def test_p6_whatever_answers_there_gets_nothing_else(
    tmp_path: Path, of: Callable[..., tuple[str, ...]]
) -> None:
    """By the client's own word, whatever the person's configuration says."""
    (tmp_path / "config").write_text(GENEROUS)
    (tmp_path / "fleet.yaml").write_text(
        "{fleet: x, expect: 1, release_root: /x, service: {name: x, supervisor: process}, "
        "ssh: {known_hosts: none, config_file: config}, hosts: {a: {address: 192.0.2.1}}}"
    )
    card = read_targets(tmp_path / "fleet.yaml")
    client, *words = unverified(card.targets[0], of(card.targets[0]))
    said = subprocess.run([client, "-G", *words], capture_output=True, text=True, check=True).stdout
    found = dict(line.partition(" ")[::2] for line in said.splitlines())
    assert {key: found[key] for key in NOTHING} == NOTHING
    assert not {"localforward", "remoteforward", "localcommand"} & set(found)
