"""Long work shows that it goes on, and nothing else changes."""

from __future__ import annotations

import threading

import pytest

from deploytool.cli.alive import alive
from deploytool.cli.output import painted, put_as_is


def test_silence_is_broken_again_and_again(capsys: pytest.CaptureFixture[str]) -> None:
    enough = threading.Semaphore(0)

    def doing() -> str:
        enough.release()
        return "still staging"

    with alive(doing, every_s=0.01):
        for _ in range(3):
            assert enough.acquire(timeout=30)
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.count("still staging, 0 s\n") >= 2


def test_what_is_heard_is_no_silence(capsys: pytest.CaptureFixture[str]) -> None:
    with alive(lambda: "never", every_s=3600.0) as heard:
        heard()
    assert capsys.readouterr() == ("", "")


def test_nothing_to_say_prints_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    asked = threading.Event()

    def doing() -> str:
        asked.set()
        return ""

    with alive(doing, every_s=0.01):
        assert asked.wait(30)
    assert capsys.readouterr() == ("", "")


class _Terminal:
    def __init__(self, *, is_one: bool) -> None:
        self._is_one = is_one

    def isatty(self) -> bool:
        return self._is_one


@pytest.mark.parametrize(
    ("terminal", "no_color", "said"),
    [(True, "", "\033[32mok\033[0m"), (True, "1", "ok"), (False, "", "ok")],
)
def test_colour_is_for_terminals_that_want_it(
    terminal: bool,
    no_color: str,
    said: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("NO_COLOR", no_color)
    assert painted("ok", "green", _Terminal(is_one=terminal)) == said


def test_what_a_host_said_never_colours(capsys: pytest.CaptureFixture[str]) -> None:
    put_as_is(painted("\033[31mrouter1", "green", _Terminal(is_one=True)), __import__("sys").stdout)
    assert capsys.readouterr().out == "\033[32m?[31mrouter1\033[0m\n"
