"""A witness of every bad kind: it has so many seconds, so many bytes, and is never misread."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest

from deploytool.stop.model import Witnessed
from deploytool.stop.targets import StopTargets
from deploytool.stop.witness import ask_witness

GOOD = '{"taken": 1000.5, "last_child": {"router1": null, "router2": 999}}'


def ask(folder: Path, code: str, timeout_s: float = 5.0) -> Witnessed | str:
    command = (sys.executable, "-I", "-S", "-c", code)
    return ask_witness(StopTargets("test", str(folder), (), silence=command, silence_s=timeout_s))


def test_it_is_understood(tmp_path: Path) -> None:
    before = time.time()
    heard = ask(tmp_path, f"import os; assert os.getcwd() == {str(tmp_path)!r}; print({GOOD!r})")
    assert isinstance(heard, Witnessed), heard
    assert heard.last_child == {"router1": None, "router2": 999.0}
    assert before <= heard.asked <= heard.answered <= time.time()


@pytest.mark.parametrize(
    ("code", "words"),
    [
        ("", "not understood"),
        ("print('[1, 2')", "not understood"),
        ("print('[]')", "not understood"),
        ("print('7')", "not understood"),
        ("print('[' * 100000)", "not understood"),
        ('print(\'{"taken": 1, "last_child": [1]}\')', "not understood"),
        ('print(\'{"taken": true, "last_child": {}}\')', "not understood"),
        ('print(\'{"taken": NaN, "last_child": {}}\')', "not understood"),
        ('print(\'{"taken": 1%s, "last_child": {}}\' % ("0" * 400))', "not understood"),
        ('print(\'{"taken": 1, "last_child": {"a": "now"}}\')', "not understood"),
        (f"import sys; print({GOOD!r}); sys.exit('no market')", "ended with 1: no market"),
        ("import sys\nwhile True: sys.stdout.write('x' * 65536)", "too much"),
        ("import sys\nwhile True: sys.stderr.write('x' * 65536)", "too much"),
    ],
    ids=lambda value: value[:48],
)
def test_p6_what_is_of_no_use_is_told_in_words(tmp_path: Path, code: str, words: str) -> None:
    heard = ask(tmp_path, code)
    assert isinstance(heard, str)
    assert words in heard


@pytest.mark.parametrize(
    "code",
    [
        "import time; time.sleep(60)",
        f"import time; print({GOOD!r}, flush=True); time.sleep(60)",
        "import os, time; os.close(1); os.close(2); time.sleep(60)",
        "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(60)",
    ],
    ids=["mute", "says it and stays", "closes its output", "deaf"],
)
def test_p6_one_that_hangs_is_ended_with_all_its_children(tmp_path: Path, code: str) -> None:
    mark = f"{tmp_path}/mark"
    began = time.monotonic()
    heard = ask(tmp_path, f"'{mark}'\nimport os\nos.fork()\n{code}", timeout_s=0.5)
    assert heard == "the witness did not answer within 0.5 s"
    assert time.monotonic() - began < 3
    left = subprocess.run(["pgrep", "-f", mark], capture_output=True, text=True)
    assert left.stdout == ""


def test_one_that_leaves_a_child_behind_is_heard_all_the_same(tmp_path: Path) -> None:
    began = time.monotonic()
    code = f"import os, time\nif os.fork() == 0: time.sleep(60)\nelse: print({GOOD!r})"
    heard = ask(tmp_path, code)
    assert isinstance(heard, Witnessed), heard
    assert time.monotonic() - began < 3


@pytest.mark.parametrize("command", [("/no/such/witness",), ("a\0b",), ("",)], ids=repr)
def test_p6_one_that_can_t_be_run_is_told_in_words(
    tmp_path: Path, command: tuple[str, ...]
) -> None:
    heard = ask_witness(StopTargets("test", str(tmp_path), (), silence=command))
    assert isinstance(heard, str)
    assert "can't be asked" in heard


def test_p6_without_a_witness_the_answer_says_so(tmp_path: Path) -> None:
    heard = ask_witness(StopTargets("test", str(tmp_path), ()))
    assert isinstance(heard, str)
    assert "names no witness" in heard
