"""Every habit by every way in, and docs/ssh.md's table beside what came of it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from .bench import COMMANDS, IN, WAYS, Bench, Servers
from .habits import HABITS

pytestmark = pytest.mark.sshd

PAGE = Path(__file__).parents[2] / "docs" / "ssh.md"


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Servers]:
    made = Servers(tmp_path_factory.mktemp("sshd"))
    try:
        yield made
    finally:
        made.close()


@pytest.fixture
def bench(servers: Servers, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bench]:
    def environment(name: str, value: str | None) -> None:
        if value is None:
            monkeypatch.delenv(name, raising=False)
        else:
            monkeypatch.setenv(name, value)

    environment("SSH_AUTH_SOCK", None)
    made = Bench(servers, tmp_path, environment)
    try:
        yield made
    finally:
        made.close()


@pytest.mark.parametrize("words", HABITS, ids=[made.__name__ for made, _ in HABITS.values()])
def test_every_command_reaches_the_same_hosts(bench: Bench, words: str) -> None:
    set_up, reached = HABITS[words]
    set_up(bench)
    path = bench.inventory()
    said = {way: enter(path) for way, enter in WAYS.items()}
    assert {way: IN in text for way, text in said.items()} == dict.fromkeys(WAYS, reached), said


def table() -> str:
    """The table as the habits have it: all ways agree, so a row is one answer."""
    rows = [
        f"| {words} | " + " | ".join("yes" if reached else "no" for _ in COMMANDS) + " |"
        for words, (_, reached) in HABITS.items()
    ]
    head = f"| habit | {' | '.join(COMMANDS)} |"
    return "\n".join([head, "|---" * (len(COMMANDS) + 1) + "|", *rows])


def test_the_page_has_the_table_of_the_suite() -> None:
    assert table() in PAGE.read_text(), f"docs/ssh.md should have:\n{table()}"


def test_every_way_is_one_of_a_command() -> None:
    assert {way for ways in COMMANDS.values() for way in ways} == set(WAYS)
