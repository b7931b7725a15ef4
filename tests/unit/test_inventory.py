"""An inventory is read as it stands, or every mistake in it is named at once, by line and path."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from paramiko import HostKeys

from deploytool.errors import InputError
from deploytool.fleet.agent_settings import settings_of
from deploytool.fleet.inventory import load_inventory, parse_inventory
from deploytool.fleet.known_hosts import read_pins
from deploytool.fleet.model import Inventory

KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAI" + "A" * 43
EXAMPLE = Path(__file__).parents[2] / "inventories" / "example.yaml"
SMALL = """\
fleet: small
expect: 2
release_root: /opt/router
service:
  name: router
  supervisor: systemd
  start: ["{current}/router", "--listen", "{listen}"]
  version: ["{current}/router", "--version"]
  status: ["{current}/router", "status"]
ssh:
  known_hosts: known_hosts
waves: [1, rest]
hosts:
  one: {address: 192.0.2.1, vars: {listen: "0.0.0.0:1"}}
  two: {address: 192.0.2.2, vars: {listen: "0.0.0.0:1"}}
"""


def parse(text: str) -> Inventory:
    return parse_inventory(text, "fleet.yaml")


def mistakes(text: str) -> tuple[str, ...]:
    with pytest.raises(InputError) as caught:
        parse(text)
    error = caught.value
    assert error.exit_code == 2
    assert "Nothing was touched" in error.means
    assert "fleet.yaml" in error.what
    assert error.details
    return error.details


def changed(old: str, new: str) -> str:
    assert SMALL.count(old) >= 1
    return SMALL.replace(old, new, 1)


def test_what_stands_there_is_what_is_read() -> None:
    inventory = parse(SMALL)
    assert inventory.names == ("one", "two")
    assert inventory.waves == (1, "rest")
    assert inventory.argv(inventory.service.start, "one")[0] == "/opt/router/current/router"


def test_the_agent_is_told_where_effects_go_and_who_is_expected_there() -> None:
    more = (
        'supervisor: systemd\n  connects: ["{listen}", "[2001:db8::1]:443"]\n'
        "  neighbours: [{executable: /usr/bin/probe, account: monitor, reason: round trips}]"
    )
    told = settings_of(parse(changed("supervisor: systemd", more)), "one")
    assert told.connects == ("0.0.0.0:1", "[2001:db8::1]:443")
    (neighbour,) = told.neighbours
    assert (neighbour.executable, neighbour.account) == ("/usr/bin/probe", "monitor")


def test_the_agent_is_told_of_the_socket_with_json_kept_as_it_is() -> None:
    line = """'{"command": "halt", "by": "{by}", "of": "{host}"}'"""
    fleet = parse(changed(NAMED, f"{NAMED}\n{SOCKET}, status: s, halt: {line}}}"))
    socket = settings_of(fleet, "one").socket
    assert socket is not None
    filled = socket.line("halt", by='an "odd" name', reason="")
    assert filled is not None
    assert json.loads(filled) == {"command": "halt", "by": 'an "odd" name', "of": "one"}
    assert (socket.path, socket.lease) == ("/opt/router/state/service/ask", None)


def test_the_example_is_one() -> None:
    assert len(parse(EXAMPLE.read_text()).hosts) == 8


SOCKET = "  socket: {path: '{state}/ask'"
NAMED = "supervisor: systemd"


@pytest.mark.parametrize(
    ("old", "new", "line", "path", "word"),
    [
        ("expect: 2", "expect: 3", 2, "expect", "2 hosts are listed"),
        ("expect: 2", "expect: 0o2", 2, "expect", ""),
        ("expect: 2", "expect: two", 2, "expect", "'two'"),
        ("expect: 2", "expect: on", 2, "expect", ""),
        ("expect: 2", "expect: 2.0", 2, "expect", "2.0"),
        ("fleet: small", "fleet: on", 1, "fleet", ""),
        ("fleet: small", "fleet: Small Fleet", 1, "fleet", "Small Fleet"),
        ("fleet: small", "fleet: 7", 1, "fleet", "7"),
        ("fleet: small\n", "", 1, "fleet", "required"),
        ("release_root: /opt/router", "release_root: opt/router", 3, "release_root", "absolute"),
        ("release_root: /opt/router", "release_root: /opt/../etc", 3, "release_root", "'..'"),
        ("release_root: /opt/router", "release_root: /", 3, "release_root", "'/'"),
        ("supervisor: systemd", "supervisor: launchd", 6, "service.supervisor", "launchd"),
        ("supervisor: systemd", "supervisor: systemd\n  speed: 3", 7, "service.speed", "not a key"),
        (NAMED, f"{NAMED}\n  python: python3", 7, "service.python", "absolute"),
        (NAMED, f"{NAMED}\n  python: /opt/../python3", 7, "service.python", "'..'"),
        (NAMED, f"{NAMED}\n  python: /opt/py thon3", 7, "service.python", "blanks"),
        (NAMED, f"{NAMED}\n  python: '/opt/$(id)'", 7, "service.python", ""),
        ('"{listen}"', '"{port}"', 7, "service.start.2", "{port}"),
        (
            NAMED,
            f"{NAMED}\n  socket: {{path: /run/x, status: s}}",
            7,
            "service.socket.path",
            "state",
        ),
        (NAMED, f"{NAMED}\n{SOCKET}, status: '{{by}}'}}", 7, "service.socket.status", "{by}"),
        (
            NAMED,
            f"{NAMED}\n{SOCKET}, status: s, halt: '{{nonce}}'}}",
            7,
            "service.socket.halt",
            "{nonce}",
        ),
        (NAMED, f"{NAMED}\n{SOCKET}, halt: s}}", 7, "service.socket.status", "required"),
        (
            "supervisor: systemd",
            'supervisor: systemd\n  connects: ["venue:1"]',
            7,
            "service.connects.0",
            "ADDRESS:PORT",
        ),
        (
            "supervisor: systemd",
            'supervisor: systemd\n  connects: ["2001:db8::1:443"]',
            7,
            "service.connects.0",
            "ADDRESS:PORT",
        ),
        (
            "supervisor: systemd",
            "supervisor: systemd\n  neighbours: [{executable: probe, account: m, reason: x}]",
            7,
            "service.neighbours.0.executable",
            "absolute",
        ),
        (
            "supervisor: systemd",
            "supervisor: systemd\n  neighbours: [{executable: /x, account: m}]",
            7,
            "service.neighbours.0.reason",
            "required",
        ),
        (NAMED, f"{NAMED}\n  unit: {{nice: 20}}", 7, "service.unit.nice", "19"),
        (NAMED, f"{NAMED}\n  unit: {{cpus: all}}", 7, "service.unit.cpus", ""),
        (NAMED, f"{NAMED}\n  unit: {{limits: {{files: 1}}}}", 7, "service.unit.limits.files", ""),
        (
            NAMED,
            f"{NAMED}\n  unit: {{environment: {{A: '{{x}}'}}}}",
            7,
            "service.unit.environment.A",
            "{x}",
        ),
        (NAMED, f"{NAMED}\n  unit: {{environment: {{A-B: x}}}}", 7, "service.unit.environment", ""),
        (
            NAMED,
            f"{NAMED}\n  unit: {{capabilities: [sys_admin]}}",
            7,
            "service.unit.capabilities.0",
            "sys_admin",
        ),
        (
            NAMED,
            f"{NAMED}\n  unit: {{after: ['a.service\\nExecStart=x']}}",
            7,
            "service.unit.after.0",
            "",
        ),
        *(
            (
                NAMED,
                f"{NAMED}\n  unit: {{writable: ['{path}']}}",
                7,
                "service.unit.writable.0",
                "must",
            )
            for path in ("/opt", "/opt/router/releases", "{root}/releases", "/etc/x", "relative")
        ),
        (
            NAMED,
            f"{NAMED}\n  unit: {{sandbox: false, writable: [/var/x]}}",
            7,
            "service.unit.writable",
            "leave it out",
        ),
        (
            NAMED,
            "supervisor: process\n  unit: {}",
            7,
            "service.unit",
            "supervisor: systemd",
        ),
        ("waves: [1, rest]", "waves: [rest, 1]", 12, "waves", "last wave only"),
        ("waves: [1, rest]", "waves: [1]", 12, "waves", "end with 'rest'"),
        ("waves: [1, rest]", "waves: []", 12, "waves", ""),
        ("waves: [1, rest]", "waves: [0, rest]", 12, "waves.0", ""),
        ("  two:", "  one:", 15, "hosts.one", "twice"),
        ("  two:", "  Two!:", 15, "hosts.Two!", ""),
        ("192.0.2.2", "192.0.2.1", 14, "hosts.one.address", "another host has too"),
        ("192.0.2.2,", "192.0.2.2, port: 99999,", 15, "hosts.two.port", "99999"),
        ("192.0.2.2,", "192.0.2.2, prot: 22,", 15, "hosts.two.prot", "not a key"),
        ("known_hosts: known_hosts", "user: me", 10, "ssh.known_hosts", "required"),
        ('/router", "status"', '/router", "a\\nb"', 9, "service.status.1", "line breaks"),
    ],
)
def test_each_mistake_is_named_by_line_and_path(
    old: str, new: str, line: int, path: str, word: str
) -> None:
    found = mistakes(changed(old, new))
    assert any(d.startswith(f"fleet.yaml:{line}: {path}") and word in d for d in found), found


def test_every_mistake_is_named_at_once() -> None:
    text = changed("expect: 2", "expect: 9").replace("fleet: small", "fleet: NO!")
    text = text.replace("systemd", "cron").replace("[1, rest]", "[rest, 1]")
    text = text.replace("192.0.2.2", "192.0.2.1")
    found = "\n".join(mistakes(text))
    for path in ("expect", "fleet", "service.supervisor", "waves", "hosts.one", "hosts.two"):
        assert f": {path}" in found, path


@pytest.mark.parametrize("hosts", ["hosts: {}", "hosts:", "hosts: []", "hosts: 3"])
def test_p2_a_fleet_of_nobody_is_a_mistake(hosts: str) -> None:
    text = SMALL[: SMALL.index("hosts:")].replace("expect: 2", "expect: 0") + hosts + "\n"
    assert any(": hosts" in line for line in mistakes(text))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "just words",
        "a: [",
        "\t- x",
        "a: 1\n--- \nb: 2\n",
        "!!python/object/apply:os.system ['true']",
        "\x00",
    ],
)
def test_what_is_no_inventory_at_all_is_said_to_be_none(text: str) -> None:
    mistakes(text)


@pytest.mark.parametrize(
    "text",
    [
        SMALL.replace("one: {", "one: &a {").replace(
            "two: {address: 192.0.2.2", "two: {address: *a"
        ),
        SMALL.replace("fleet: small", "fleet: &x small"),
        SMALL.replace("  one: {", "  one: {<<: {port: 1}, "),
    ],
)
def test_what_a_reader_sees_is_what_is_there(text: str) -> None:
    mistakes(text)


def test_a_file_that_is_too_large_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "fleet.yaml"
    path.write_text(SMALL + "#" * (5 * 1024 * 1024))
    with pytest.raises(InputError, match="mistake") as caught:
        load_inventory(path)
    assert "larger" in caught.value.details[0]


@pytest.mark.parametrize("content", [None, b"\xff\xfe", SMALL.encode()])
def test_a_file_that_cant_be_used_says_why(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "fleet.yaml"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(InputError) as caught:  # the last one lacks its pinned keys
        load_inventory(path)
    assert caught.value.means.startswith("Nothing was touched")


def test_relative_paths_are_taken_from_the_inventorys_folder(tmp_path: Path) -> None:
    (tmp_path / "known_hosts").touch()
    (tmp_path / "fleet.yaml").write_text(
        changed("known_hosts: known_hosts", "known_hosts: known_hosts\n  identity_file: key")
    )
    inventory = load_inventory(tmp_path / "fleet.yaml")
    assert inventory.ssh.known_hosts == str(tmp_path / "known_hosts")
    assert inventory.ssh.identity_file == str(tmp_path / "key")


def test_mistakes_in_the_files_that_it_names_are_told_with_all_others_and_their_lines(
    tmp_path: Path,
) -> None:
    path = tmp_path / "fleet.yaml"
    path.write_text(changed("expect: 2", "expect: 3\nsigners: people"))
    with pytest.raises(InputError) as caught:
        load_inventory(path)
    lost, signers = f"{path}:12: ssh.known_hosts: ", f"{path}:3: signers: "
    said = caught.value.details
    assert [line.split(": ")[:2] for line in said] == [
        [f"{path}:2", "expect"],
        [f"{path}:3", "signers"],
        [f"{path}:12", "ssh.known_hosts"],
    ]
    assert said[1].startswith(f"{signers}The signers file")
    assert said[2].startswith(f"{lost}The pinned host keys in {tmp_path}/known_hosts can't be read")
    (tmp_path / "people").write_text("* ssh-ed25519 AAAA\n")
    (tmp_path / "known_hosts").write_text(
        f"# a comment\n\n192.0.2.1  {KEY}\n192.0.2.2 ssh-ed25519\n@revoked x {KEY}\n"
        f"|1|damaged {KEY}\n192.0.2.2 {KEY[:-4]}\n192.0.2.2 ssh-rsa {KEY.split()[1]}\n"
        "192.0.2.2 ssh-new@example AAAAD3NzaC1uZXdAZXhhbXBsZQ==\n"
    )
    with pytest.raises(InputError) as caught:
        load_inventory(path)
    keys = [line.removeprefix(lost) for line in caught.value.details if line.startswith(lost)]
    assert [line.partition(": ")[0] for line in keys] == [
        f"{tmp_path}/known_hosts:{number}" for number in (4, 5, 6, 7, 8)
    ]
    assert f"{signers}{tmp_path}/people:1: " in "\n".join(caught.value.details)


def test_pinned_keys_are_found_by_their_names_plain_and_hashed(tmp_path: Path) -> None:
    hashed = HostKeys.hash_host("[192.0.2.9]:2222")
    (tmp_path / "known_hosts").write_text(f"192.0.2.1,one {KEY}\n{hashed}\t{KEY} comment\n")
    pins = read_pins(tmp_path / "known_hosts")
    for name in ("192.0.2.1", "one", "[192.0.2.9]:2222"):
        assert [f"{key.get_name()} {key.get_base64()}" for key in pins.of(name)] == [KEY]
    assert pins.of("192.0.2.9") == ()


def test_two_roots_on_one_machine_are_two_hosts() -> None:
    same = SMALL.replace("192.0.2.2", "192.0.2.1")
    mistakes(same)
    parse(same.replace("/opt/router", "/opt/{host}/router"))


def test_the_digest_is_of_the_fleet_and_not_of_whoever_reaches_it() -> None:
    digest = parse(SMALL).digest()
    assert (
        parse(changed("  known_hosts: known_hosts", "  known_hosts: x\n  user: y")).digest()
        == digest
    )
    assert parse(changed("0.0.0.0:1", "0.0.0.0:2")).digest() != digest
    assert parse(changed("192.0.2.1", "192.0.2.9")).digest() != digest


YAML_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=6,
)


@given(st.sampled_from(sorted(yaml.safe_load(SMALL))), YAML_VALUES)
def test_nothing_that_yaml_can_say_is_more_than_a_mistake(key: str, value: object) -> None:
    said = yaml.safe_load(SMALL)
    said[key] = value
    try:
        read = parse(yaml.safe_dump(said)).names
    except InputError as error:
        read = error.details
    assert read


FLAGS = """\
  flags:
    observe: ["{current}/router", "show"]
    prepare: ["{current}/router", "prepare", "{flag}"]
    commit: ["{current}/router", "commit", "{flag}"]
    settle: ["{current}/router", "settle", "{flag}"]
    disarm: ["{current}/router", "disarm", "{flag}", "--as", "{fleet}", "--by", "{signers}"]
"""
SENDERS = """\
signers: signers
gateway:
  use: [gate, use, "{bit}", "{release}", "{fleet}"]
  withdraw: [gate, withdraw, "{flag}"]
  observe: [gate, observe]
membership:
  command: [gate, members]
  timeout_s: 2
"""
ARMS = SMALL.replace("ssh:\n", FLAGS + SENDERS + "ssh:\n")


def test_flags_and_senders_are_read() -> None:
    inventory = parse(ARMS)
    assert inventory.service.flags is not None
    assert inventory.gateway is not None
    assert inventory.membership is not None
    assert inventory.gateway.timeout_s == 5
    disarm = [a for a in inventory.service.flags.disarm if a != "{flag}"]
    assert inventory.argv(tuple(disarm), "one") == (
        *("/opt/router/current/router", "disarm", "--as", "small", "--by"),
        "/etc/deploytool/router/allowed_signers",
    )
    assert (
        parse(ARMS.replace("systemd", "process")).signers_path("one")
        == "/opt/router/etc/allowed_signers"
    )


@pytest.mark.parametrize(
    ("old", "new", "path", "word"),
    [
        ("signers: signers\n", "", "service.flags", "needs a 'signers' file"),
        ("signers: signers\n", "", "service.flags.disarm.6", "names no 'signers' file"),
        ('    settle: ["{current}/router", "settle", "{flag}"]\n', "", "service.flags.settle", ""),
        ('"settle", "{flag}"', '"settle", RLP', "service.flags.settle", "must say which flag"),
        ('"show"', '"{flag}"', "service.flags.observe.1", "{flag}"),
        ('"settle", "{flag}"', '"{flag}", "{bit}"', "service.flags.settle.2", "{bit}"),
        ("settle:", "sattle:", "service.flags.sattle", "not a key"),
        ('"{bit}", "{release}"', "it, now", "gateway.use", "one of {bit}, {flag}, {release}"),
        ('withdraw, "{flag}"', 'withdraw, "{release}"', "gateway.withdraw.2", "{release}"),
        ("observe: [gate, observe]", 'observe: [gate, "{host}"]', "gateway.observe.1", "{host}"),
        ("[gate, members]", '[gate, "{listen}"]', "membership.command.1", "{listen}"),
        ("[gate, members]", "[]", "membership.command", ""),
        ("[gate, members]", "gate members", "membership.command", ""),
        ("timeout_s: 2", "timeout_s: 0", "membership.timeout_s", "0"),
        ("timeout_s: 2", "timeout: 2", "membership.timeout", "not a key"),
        ('one: {address: 192.0.2.1, vars: {', 'one: {address: 192.0.2.1, vars: {flag: x, ',
         "hosts.one.vars.flag", "meaning of its own"),
    ],
)  # fmt: skip
def test_each_mistake_about_flags_is_named(old: str, new: str, path: str, word: str) -> None:
    assert ARMS.count(old) == 1, old
    found = mistakes(ARMS.replace(old, new))
    assert any(f": {path}: " in line and word in line for line in found), found


def test_whom_one_operator_s_machine_asks_is_no_part_of_what_the_fleet_is() -> None:
    one = parse(ARMS)
    other = parse(ARMS.replace("gate, members", "other, members").replace("gate, use", "x, use"))
    assert one.digest() == other.digest() == one.with_signers("/x/signers", "").digest()
    assert one.digest() != parse(ARMS.replace('"settle", ', '"settle", "x", ')).digest()


def test_the_signers_file_is_read_beside_the_inventory(tmp_path: Path) -> None:
    path = tmp_path / "fleet.yaml"
    path.write_text(ARMS)
    (tmp_path / "known_hosts").touch()
    with pytest.raises(InputError, match="has 1 mistake"):
        load_inventory(path)
    (tmp_path / "signers").write_text("# nobody yet\n")
    inventory = load_inventory(path)
    assert inventory.signers == str(tmp_path / "signers")
    assert inventory.allowed_signers == "# nobody yet\n"
    (tmp_path / "signers").write_text("* ssh-ed25519 AAAA\n")
    with pytest.raises(InputError, match="2 mistakes"):
        load_inventory(path)
