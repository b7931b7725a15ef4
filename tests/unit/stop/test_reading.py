"""A damaged inventory costs the entries that are damaged, and no other host (P6)."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deploytool.errors import InputError
from deploytool.fleet.inventory import load_inventory
from deploytool.stop.targets import StopTargets, read_targets

HEAD = """\
fleet: test
expect: 3
release_root: /opt/router
service: {name: router, supervisor: process}
ssh: {known_hosts: known_hosts, user: deploy}
"""
HOSTS = """\
hosts:
  router1: {address: 192.0.2.1}
  router2:
    address: 192.0.2.2
    port: 2222
  router3: {address: 192.0.2.3}
"""
ALL = {"router1": "192.0.2.1", "router2": "192.0.2.2", "router3": "192.0.2.3"}


def read(tmp_path: Path, text: str | bytes) -> StopTargets:
    path = tmp_path / "fleet.yaml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(InputError):
        load_inventory(path)
    return read_targets(path)


def told(card: StopTargets) -> dict[str, str]:
    return {target.host: target.argv[-2] for target in card.targets}


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("expect: 3", "expect: 3\nnote: !vault secret"),
        ("expect: 3", "expect: 3\nnote: !!python/object/apply:os.abort []"),
        ("expect: 3", "expect: 3\nnote: !!int twelve"),
        ("expect: 3", "expect: 3\nsince: 2026-13-45"),
        ("expect: 3", "expect: 3\nsince: 2026-02-30 25:61:61"),
        ("expect: 3", "expect: 3\n? [a, b]\n: c"),
        ("expect: 3", "expect: 3\nnote: &a [*a]"),
        ("expect: 3", "expect: 3 # caf\xe9"),
        ("router1: {", "router1: !host {"),
        ("address: 192.0.2.1}", "address: !!str 192.0.2.1, vars: {since: 2026-99-99}}"),
        ("address: 192.0.2.1}", "<<: {address: 192.0.2.1}}"),
    ],
)
def test_p6_a_value_that_can_t_be_one_costs_nobody(tmp_path: Path, old: str, new: str) -> None:
    text = (HEAD + HOSTS).replace(old, new, 1)
    assert text != HEAD + HOSTS
    card = read(tmp_path, text.encode("latin-1"))
    assert (told(card), card.unfit, card.doubt) == (ALL, {}, "")


@pytest.mark.parametrize(
    "text",
    [
        HEAD + HOSTS + "---\n" + HEAD + HOSTS.replace("router", "other"),
        HEAD + HOSTS + "---\n[: nothing",
        HEAD + HOSTS + "\0" * 4096,
        (HEAD + HOSTS).replace("router2", "rou\0ter2"),
        (HEAD + HOSTS).replace("router2", "\x1b[31mrouter2").replace("\x1b[31m", "\x1b"),
        (HEAD + HOSTS).encode("utf-16"),
        HEAD.replace("fleet: test", "fleet: [test") + HOSTS,
        HEAD.replace("fleet: test", "fleet: 'test") + HOSTS,
        HEAD.replace("expect: 3\n", "expect: 3\n\twaves: [1]\n") + HOSTS,
        HEAD + "waves: [1,\n" + HOSTS,
        HEAD + HOSTS + "<<<<<<< HEAD\nwaves: [1]\n=======\nwaves: [2]\n>>>>>>> other\n",
        HEAD + HOSTS + "#" * 5 * 1024 * 1024,
    ],
    ids=range(12),
)
def test_p6_damage_beside_the_hosts_costs_nobody_and_is_said(
    tmp_path: Path, text: str | bytes
) -> None:
    card = read(tmp_path, text)
    found = told(card)
    assert ALL.items() <= found.items()
    assert card.doubt or isinstance(text, bytes)


def test_p6_both_sides_of_a_conflict_are_told(tmp_path: Path) -> None:
    ours, theirs = "  router3: {address: 192.0.2.3}\n", "  router3: {address: 198.51.100.3}\n"
    new = "  router4: {address: 192.0.2.4}\n"
    conflict = f"<<<<<<< HEAD\n{ours}||||||| base\n=======\n{theirs}{new}>>>>>>> a branch\n"
    text = HEAD.replace("expect: 3\n", "<<<<<<< HEAD\nexpect: 3\n=======\nexpect: 4\n>>>>>>> b\n")
    card = read(tmp_path, text + HOSTS.replace(ours, conflict))
    assert told(card) == {
        **ALL, "router3, entry 2": "198.51.100.3", "router4": "192.0.2.4"
    }  # fmt: skip
    assert "can't be read as written" in card.doubt


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("router1: {address: 192.0.2.1}", "router1: {address: 192.0.2.1"),
        ("router1: {address: 192.0.2.1}", "router1: address: 192.0.2.1"),
        ("router1: {address: 192.0.2.1}", "router1"),
        ("router1: {address: 192.0.2.1}", "router1: {address: '192.0.2.1}"),
        ("router1: {address: 192.0.2.1}", "router1: {address: *nothing}"),
    ],
)
def test_p6_a_broken_entry_costs_that_host_alone(tmp_path: Path, old: str, new: str) -> None:
    card = read(tmp_path, HEAD + HOSTS.replace(old, new))
    assert told(card) == {name: ALL[name] for name in ("router2", "router3")}
    assert list(card.unfit) == ["router1"], "it is declared, and named"
    assert card.doubt


def test_p6_a_broken_line_of_an_entry_does_not_hide_its_address(tmp_path: Path) -> None:
    card = read(tmp_path, HEAD + HOSTS.replace("port: 2222", "port: [2222"))
    assert told(card) == ALL


LINES = (HEAD + HOSTS).splitlines(keepends=True)


@settings(max_examples=300, deadline=None)
@given(
    st.integers(6, len(LINES)),
    st.text(st.sampled_from("{}[]'\"&*!|>%@`,:#? \t-ab\0é"), min_size=1, max_size=12),
)
def test_p6_a_line_of_rubbish_hides_no_entry_that_is_whole_by_itself(
    tmp_path_factory: pytest.TempPathFactory, at: int, rubbish: str
) -> None:
    """Outside of an entry, indented as one: the others are told, whatever the line is."""
    path = tmp_path_factory.mktemp("r") / "fleet.yaml"
    inside = LINES[at : at + 1] and LINES[at].startswith("    ")
    at = at + 2 if inside else at
    path.write_text("".join([*LINES[:at], f"  {rubbish}\n", *LINES[at:]]))
    found = told(read_targets(path))
    lost = set(ALL) - set(found)
    # What is added may go on from the entry before it, and damage that one.
    assert len(lost) <= 1, lost
    assert all(found[name] == ALL[name] for name in found if name in ALL)
