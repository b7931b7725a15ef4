"""The console script. A stop goes past everything that is slow to import or able to break."""

from __future__ import annotations

import gc
import sys

TYPE_CHECKING = False  # typing takes longer to import than a host to halt
if TYPE_CHECKING:
    from typing import TextIO

COLLECT_AT = 100_000
"""So many objects more than there were, and garbage is looked for."""
_HELP = frozenset({"--help", "-h"})


def main() -> None:
    """Does what was typed; ends the process with its exit code."""
    # What is imported stays: to look through it again and again costs a sixth of a start.
    gc.set_threshold(COLLECT_AT)
    try:
        common, words = common_first(sys.argv[1:])
        if words[:1] == ["stop"] and not _HELP & {*words}:
            sys.exit(_stop(common, words))
        sys.argv[1:] = [*common, *words]
        from deploytool.cli.main import main as everything
    except KeyboardInterrupt:  # in a stop, or while the rest is still being read in
        from deploytool.cli.output import broken_off

        sys.exit(broken_off())
    everything()


def _stop(common: list[str], words: list[str]) -> int:
    """Stops; gives the exit code, also where this machine has no room to get any further."""
    try:
        from deploytool.cli.stopnow import run

        log_stop(common)
        sys.argv[1:] = words
        return run(words[1:])
    except Exception as error:  # noqa: BLE001 what says more could not be imported either
        what = f"This machine can't run a stop any further: {type(error).__name__}: {error}."
        means = "Whether any host was stopped is not known; all of them may go on sending orders."
        now = "Run the same stop on another machine, or make room on this one and run it again."
        if "--json" in words:
            quoted = [text.replace("\\", "/").replace('"', "'") for text in (what, means, now)]
            _say(_DOCUMENT % tuple(" ".join(text.split()) for text in quoted), sys.stdout)
        _say(f"What happened: {what}\nWhat it means: {means}\nWhat to do now: {now}")
        return 6


_DOCUMENT = (
    '{"schema_version": 1, "exit": 6, "error": "StopNotConfirmed", "what": "%s", "means": "%s",'
    ' "now": "%s", "details": [], "findings": []}'
)
"""Of a stop that could not even import what writes JSON."""


def common_first(words: list[str]) -> tuple[list[str], list[str]]:
    """The options that every command has, wherever they were typed, and the other words."""
    common: list[str] = []
    others: list[str] = []
    left = list(words)
    while left:
        word = left.pop(0)
        if word == "--":
            return common, [*others, word, *left]
        if word == "--verbose" or word.startswith("--log-file="):
            common.append(word)
        elif word == "--log-file":
            common += [word, *left[:1]]
            del left[:1]
        else:
            others.append(word)
    return common, others


def log_stop(common: list[str]) -> None:
    """Logs a stop as it was asked to. Whatever is wrong with that is said, and stops no stop."""
    try:
        from deploytool.fleet.exchange_log import LOG

        LOG.verbose = "--verbose" in common
        names = [word.partition("=")[2] for word in common if word.startswith("--log-file=")]
        if "--log-file" in common:
            names += common[common.index("--log-file") + 1 :][:1] or [""]
        for name in names:
            LOG.open(name)
    except Exception as error:  # noqa: BLE001 whatever it is, the hosts are stopped
        _say(f"No log is written: {error}")


def _say(text: str, file: TextIO | None = None) -> None:
    try:
        print(text, file=file or sys.stderr, flush=True)
    except (OSError, ValueError, AttributeError):
        return
