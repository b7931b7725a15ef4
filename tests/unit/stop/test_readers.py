"""Both readers of an inventory see one fleet, at one place (P6): the strict one, and a stop's."""

from __future__ import annotations

import string
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from deploytool.errors import InputError
from deploytool.fleet.inventory import load_inventory
from deploytool.fleet.model import Inventory
from deploytool.fleet.paths import PlainNames, expand_home, folder_of, home
from deploytool.fleet.prepared import invocation
from deploytool.stop.targets import Target, read_targets

ODD = string.ascii_letters + string.digits + "%${}\"' #=:,;&*!|>@`~\\-.[]?é中\U0001f511"
KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAI" + "A" * 43

files = st.text(ODD, min_size=1, max_size=12).filter(lambda t: t.strip(".") and t[0] != "~")
accounts = st.from_regex(r"[a-z_][a-z0-9_-]{0,31}", fullmatch=True)
hosts = st.from_regex(r"[a-z0-9]([a-z0-9.-]{0,9}[a-z0-9])?", fullmatch=True)
addresses = st.from_regex(r"[A-Za-z0-9_:.%][A-Za-z0-9_:.%-]{0,20}", fullmatch=True)


def optional(values: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.none() | values


@st.composite
def fleets(draw: st.DrawFn) -> dict[str, Any]:
    """An inventory as a person may write it; most of them are good."""
    found = {}
    for host in draw(st.lists(hosts, min_size=1, max_size=4, unique=True)):
        entry = {
            "address": draw(addresses),
            "port": draw(optional(st.integers(1, 65535))),
            "user": draw(optional(accounts)),
            "identity_file": draw(optional(files)),
        }
        found[host] = {key: value for key, value in entry.items() if value is not None}
    ssh = {
        "known_hosts": draw(files),
        "user": draw(optional(accounts)),
        "identity_file": draw(optional(files)),
        "config_file": draw(optional(files)),
    }
    return {
        "fleet": "test",
        "expect": len(found),
        "release_root": draw(st.sampled_from(["/opt/{host}", "/opt/{host}/", "/srv/x_y/{host}.d"])),
        "service": {
            "name": draw(st.from_regex(r"[a-z][a-z0-9_-]{0,8}", fullmatch=True)),
            "supervisor": draw(st.sampled_from(["systemd", "process"])),
            "start": ["{current}/router"],
            "version": ["true"],
            "status": ["true"],
        },
        "ssh": {key: value for key, value in ssh.items() if value is not None},
        "hosts": found,
    }


def written(said: dict[str, Any], folder: Path, *, flow: bool | None) -> Path:
    """The inventory, with all the files that it names."""
    folder.mkdir(parents=True, exist_ok=True)
    names = [said["ssh"].get("identity_file"), said["ssh"].get("config_file")]
    for name in (*names, *(one.get("identity_file") for one in said["hosts"].values())):
        if name is not None:
            (folder / name).touch()
    (folder / said["ssh"]["known_hosts"]).write_text(f"x {KEY}\n")
    path = folder / "fleet of %d.yaml"
    text = yaml.safe_dump(said, default_flow_style=flow, allow_unicode=True, sort_keys=False)
    path.write_text(text, encoding="utf-8")
    return path


def options(target: Target) -> dict[str, list[str]]:
    """What a target's command says, by option."""
    found: dict[str, list[str]] = {}
    words = list(target.argv[: target.argv.index("--")])
    while words:
        word = words.pop(0)
        if word == "-o":
            key, _, value = words.pop(0).partition("=")
            found.setdefault(key, []).append(value)
        elif word in {"-l", "-p", "-F"}:
            found.setdefault(word, []).append(words.pop(0))
    return found


def read_alike(inventory: Inventory, path: Path) -> None:
    """Holds the two readings together, by the files that ``ssh`` would open."""
    card = read_targets(path)
    assert card.names == inventory.names
    assert (card.fleet, card.doubt, card.folder) == (inventory.fleet, "", str(folder_of(path)))
    for target in card.targets:
        spec, said = inventory.hosts[target.host], options(target)
        account = spec.user or inventory.ssh.user
        assert target.argv[-2] == spec.address
        assert target.argv[-1] == invocation(inventory, target.host)
        assert said.get("-l", []) == ([account] if account else [])
        assert said.get("-p", []) == ([str(spec.port)] if spec.port else [])
        (whole,) = said["-F"]
        told = [line.split(" ", 1) for line in Path(whole).read_text().splitlines()]
        (pins,) = (value for key, value in told if key == "UserKnownHostsFile")
        assert Path(pins).samefile(inventory.ssh.known_hosts)
        key = spec.identity_file or inventory.ssh.identity_file
        assert bool(key) == bool(said.get("IdentityFile"))
        assert all(Path(one).samefile(key) for one in said.get("IdentityFile", []) if key)
        config = inventory.ssh.config_file
        included = [value for key, value in told if key == "Include"]
        assert (
            [Path(one).samefile(config) for one in included] == [True]
            if config
            else (included == ["~/.ssh/config", "/etc/ssh/ssh_config"])
        )
        for one in (whole, pins, *said.get("IdentityFile", []), *included):
            assert not set(one) & set("%$\"' \\"), "ssh would make something else of it"


@settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(said=fleets(), folder=files, flow=st.sampled_from([None, True, False]), data=st.data())
def test_p6_what_the_strict_reader_accepts_a_stop_reads_alike(
    tmp_path_factory: pytest.TempPathFactory,
    said: dict[str, Any],
    folder: str,
    flow: bool | None,
    data: st.DataObject,
) -> None:
    path = written(said, tmp_path_factory.mktemp("f") / folder, flow=flow)
    if data.draw(st.booleans()):
        text = path.read_text(encoding="utf-8")
        start = data.draw(st.sampled_from(["", "\ufeff", "# ete\n", "---\n", "%YAML 1.1\n---\n"]))
        ends = data.draw(st.sampled_from(["\n", "\r\n", "\r"]))
        path.write_bytes((start + text).replace("\n", ends).encode())
    try:
        inventory = load_inventory(path)
    except InputError:
        return  # a stop may read it all the same
    read_alike(inventory, path)


@settings(max_examples=150, deadline=None)
@given(st.text(ODD + "/\n\t", max_size=30))
def test_p6_every_path_gets_a_name_of_which_ssh_makes_nothing(text: str) -> None:
    plain = PlainNames()
    names = [plain.of(f"/{text}"), *plain.identity(f"/{text}")]
    assert not any(set(name) & set("%${}\"' \\#\n\t") for name in names)


def test_p6_a_home_is_the_account_s_and_not_the_environment_s(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("HOME", "/elsewhere")
    own = home()
    assert own is not None
    assert own != "/elsewhere"
    assert expand_home("~/.ssh/id") == f"{own.rstrip('/')}/.ssh/id"
    assert expand_home("~root/x") == f"{home('root')}/x"
    for text in ("~no-such-account/x", "a~/x", "~\0/x", "./~"):
        assert expand_home(text) == text
