"""What a terminal is shown: a live table, and colours; with NO_COLOR none of these."""

from __future__ import annotations

import os
import pty
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest

from .test_inventory import KEY, SMALL

ROOT = Path(__file__).parents[2]
TIMEOUT_S = 60
COLOUR = re.compile(r"\x1b\[(?:[0-9]+;)*(?:3[0-9]|4[0-9]|9[0-7]|10[0-7])(?:;[0-9]+)*m")
"""A colour, of letters or of what is behind them; bold and italic are none."""
CODE = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
LIVE = """
import sys, time
from deploytool.cli.screen import RolloutScreen
from deploytool.rollout.model import State
with RolloutScreen(("router1", "router2"), "deploy of router 2") as shown:
    assert "deploytool.cli.live" not in sys.modules
    shown.state(State.STAGING, ("router1", "router2"))
    assert "deploytool.cli.live" in sys.modules
    shown.host("router1", "staged", good=True)
    time.sleep(0.3)
    shown.host("router2", "no room \\x1b[31mleft", good=False)
"""


def on_a_terminal(words: list[str], cwd: Path, no_color: str | None) -> tuple[int, str]:
    """The exit code, and all that a terminal of 100 columns was sent."""
    ours, theirs = pty.openpty()
    variables = {"PATH": os.environ["PATH"], "HOME": str(cwd), "PYTHONPATH": str(ROOT)}
    variables |= {"TERM": "xterm-256color", "COLUMNS": "100", "LINES": "30"}
    if no_color is not None:
        variables["NO_COLOR"] = no_color
    try:
        process = subprocess.Popen(
            [sys.executable, *words], cwd=cwd, env=variables, stdin=theirs, stdout=theirs,
            stderr=theirs, start_new_session=True,
        )  # fmt: skip
    finally:
        os.close(theirs)
    sent, ends = bytearray(), time.monotonic() + TIMEOUT_S
    try:
        while time.monotonic() < ends:
            try:
                part = os.read(ours, 65536)
            except OSError:  # so a terminal says that its last process has gone
                break
            sent += part
        return process.wait(max(0.1, ends - time.monotonic())), sent.decode()
    finally:
        process.kill()
        process.wait()
        os.close(ours)


@pytest.mark.parametrize(("no_color", "coloured"), [(None, True), ("", True), ("1", False)])
def test_the_live_table(tmp_path: Path, no_color: str | None, coloured: bool) -> None:
    code, sent = on_a_terminal(["-c", LIVE], tmp_path, no_color)
    assert code == 0, sent
    assert bool(COLOUR.search(sent)) == coloured
    assert "\x1b[1A" in sent, "it is drawn anew where it stands"
    last = CODE.sub("", sent[sent.rindex("deploy of router 2") :])
    assert re.search(r"router1 .* ok ", last)
    assert re.search(r"router2: no room .*left", last)
    assert "staging (2 of 2 hosts)" in last


@pytest.mark.parametrize(("no_color", "coloured"), [(None, True), ("1", False)])
def test_a_commands_table_and_its_end(tmp_path: Path, no_color: str | None, coloured: bool) -> None:
    one = SMALL.replace("expect: 2", "expect: 1").replace("[1, rest]", "[rest]")
    lines = [line for line in one.splitlines() if not line.startswith("  two:")]
    # Nobody listens there, and it is said at once.
    text = "\n".join(lines).replace("address: 192.0.2.1", "address: 127.0.0.1, port: 1")
    (tmp_path / "fleet.yaml").write_text(text)
    (tmp_path / "known_hosts").write_text(f"[127.0.0.1]:1 {KEY}\n")
    words = ["-m", "deploytool.cli.main", "status", "-i", "fleet.yaml"]
    code, sent = on_a_terminal(words, tmp_path, no_color)
    assert code == 5, sent
    assert bool(COLOUR.search(sent)) == coloured
    plain = CODE.sub("", sent)
    assert re.search(r"one +UNKNOWN ", plain)
    assert "Connection refused" in " ".join(plain.split())
    assert "What happened:" in plain
