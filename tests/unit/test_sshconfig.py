"""How a host is reached is what OpenSSH would do: asked of the real ``ssh -G``."""

from __future__ import annotations

import getpass
import shutil
from pathlib import Path

import pytest

from deploytool.errors import EnvironmentProblem
from deploytool.fleet.model import Inventory
from deploytool.fleet.sshconfig import Route, route
from deploytool.simulation import fleet
from tests.unable import unable


@pytest.fixture(autouse=True)
def client() -> None:
    if shutil.which("ssh") is None:
        unable("needs OpenSSH's client")


def reach(tmp_path: Path, config: str, *, host: dict[str, object] | None = None) -> Route:
    (tmp_path / "config").write_text(config)
    base = fleet.inventory(1)
    spec = base.hosts["router1"].model_copy(update={"address": "alias", **(host or {})})
    ssh = base.ssh.model_copy(update={"config_file": str(tmp_path / "config")})
    inventory: Inventory = base.model_copy(update={"hosts": {"router1": spec}, "ssh": ssh})
    return route(inventory, "router1")


def test_an_alias_is_what_openssh_makes_of_it(tmp_path: Path) -> None:
    way = reach(tmp_path, "Host alias\n HostName 192.0.2.7\n Port 2222\n User ops\n")
    assert (way.hostname, way.port, way.user) == ("192.0.2.7", 2222, "ops")
    assert way.key_name == "[192.0.2.7]:2222"
    assert way.jumps == ()


def test_an_include_counts(tmp_path: Path) -> None:
    (tmp_path / "more").write_text("Host alias\n HostName 192.0.2.8\n User included\n")
    way = reach(tmp_path, f"Include {tmp_path}/more\n")
    assert (way.hostname, way.user, way.port, way.key_name) == (
        "192.0.2.8",
        "included",
        22,
        "192.0.2.8",
    )


def test_the_inventory_has_the_last_word(tmp_path: Path) -> None:
    config = "Host alias\n HostName 192.0.2.7\n Port 2222\n User ops\n"
    way = reach(tmp_path, config, host={"port": 2022, "user": "me"})
    assert (way.port, way.user) == (2022, "me")


def test_a_key_alias_is_the_name_that_is_pinned(tmp_path: Path) -> None:
    way = reach(tmp_path, "Host alias\n HostName 192.0.2.7\n HostKeyAlias pinned-name\n")
    assert way.key_name == "pinned-name"


def test_jumps_come_in_order_each_by_its_own_configuration(tmp_path: Path) -> None:
    config = (
        "Host alias\n HostName 192.0.2.7\n ProxyJump first,me@192.0.2.2:2200\n"
        "Host first\n HostName 192.0.2.1\n User gate\n Port 2100\n"
    )
    way = reach(tmp_path, config)
    assert [(j.user, j.hostname, j.port) for j in way.jumps] == [
        ("gate", "192.0.2.1", 2100),
        ("me", "192.0.2.2", 2200),
    ]


def test_a_loop_of_jumps_ends_and_is_named(tmp_path: Path) -> None:
    config = "Host alias\n ProxyJump b\nHost b\n ProxyJump alias\n"
    with pytest.raises(EnvironmentProblem, match="ProxyJump"):
        reach(tmp_path, config)


def test_a_proxy_command_has_its_tokens_filled_in(tmp_path: Path) -> None:
    config = "Host alias\n HostName 192.0.2.7\n Port 2222\n User ops\n ProxyCommand nc"
    way = reach(tmp_path, f"{config} %h %p %r %n %k 1%% $HOME\n")
    assert way.proxy_command == "nc 192.0.2.7 2222 ops alias alias 1% $HOME"
    assert reach(tmp_path, "Host alias\n ProxyCommand none\n").proxy_command is None


def test_identities_are_those_that_exist(tmp_path: Path) -> None:
    (tmp_path / "key").touch()
    config = f"Host alias\n IdentityFile {tmp_path}/key\n IdentityFile {tmp_path}/absent\n"
    way = reach(tmp_path, config + " IdentitiesOnly yes\n IdentityAgent none\n")
    assert way.identity_files == (str(tmp_path / "key"),)
    assert (way.identities_only, way.agent) == (True, None)
    ours = reach(tmp_path, config, host={"identity_file": str(tmp_path / "key")})
    assert ours.identities_only, "a key that the inventory names is the only one offered"


def test_a_public_half_is_enough_for_an_identity_and_tokens_are_filled_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KEYS", str(tmp_path))
    (tmp_path / "of-192.0.2.7-ops.pub").touch()
    config = "Host alias\n HostName 192.0.2.7\n User ops\n IdentityFile ${KEYS}/of-%h-%r\n"
    assert reach(tmp_path, config).identity_files == (f"{tmp_path}/of-192.0.2.7-ops",)
    (tmp_path / f"{getpass.getuser()}.pub").touch()
    config = f"Host alias\n IdentityFile {tmp_path}/%u\n"
    assert reach(tmp_path, config).identity_files == (f"{tmp_path}/{getpass.getuser()}",)


def test_the_agent_is_the_one_that_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSH_AUTH_SOCK", "/run/mine")
    monkeypatch.setenv("OTHER", "/run/other")
    for said, agent in (
        ("", "/run/mine"),
        ("IdentityAgent SSH_AUTH_SOCK", "/run/mine"),
        ("IdentityAgent $OTHER", "/run/other"),
        ("IdentityAgent /run/a-%h", "/run/a-192.0.2.7"),
        ("IdentityAgent none", None),
    ):
        assert reach(tmp_path, f"Host alias\n HostName 192.0.2.7\n {said}\n").agent == agent
    monkeypatch.delenv("SSH_AUTH_SOCK")
    assert reach(tmp_path, "Host alias\n HostName 192.0.2.7\n").agent is None


@pytest.mark.parametrize(
    "line",
    [
        "IdentityFile /keys/%C",
        "IdentityFile ${NOT_THERE}/key",
        "IdentityFile ~nobody-of-that-name/key",
        "ProxyCommand nc %h %T",
        "ProxyCommand nc %h %p\n ProxyUseFdpass yes",
    ],
)
def test_what_is_not_done_here_is_refused_and_never_ignored(tmp_path: Path, line: str) -> None:
    with pytest.raises(EnvironmentProblem, match=r"is not supported|refuses"):
        reach(tmp_path, f"Host alias\n HostName 192.0.2.7\n {line}\n")


def test_a_jump_behind_a_jump_comes_first_and_no_jump_has_jumps(tmp_path: Path) -> None:
    config = (
        "Host alias\n HostName 192.0.2.7\n ProxyJump b,c\n"
        "Host b\n HostName 192.0.2.2\n ProxyJump a\n"
        "Host a\n HostName 192.0.2.1\n ProxyCommand nc %h %p\n"
        "Host c\n HostName 192.0.2.3\n ProxyJump elsewhere\n"
    )
    way = reach(tmp_path, config)
    assert [hop.hostname for hop in way.hops] == [f"192.0.2.{n}" for n in (1, 2, 3, 7)]
    assert all(hop.jumps == () for hop in way.jumps)
    assert [hop.proxy_command for hop in way.hops] == ["nc 192.0.2.1 22", None, None, None]


def test_what_openssh_refuses_is_refused_with_its_own_words(tmp_path: Path) -> None:
    with pytest.raises(EnvironmentProblem, match=r"(?i)nonsense"):
        reach(tmp_path, "Host alias\n Nonsense yes\n")


@pytest.mark.parametrize("address", ["-oProxyCommand=touch /tmp/no", "-v", "-Fx", "a b", "", "a;b"])
def test_no_address_is_an_option(address: str) -> None:
    base = fleet.inventory(1)
    with pytest.raises(ValueError, match="address"):
        type(base.hosts["router1"]).model_validate({"address": address})
