"""The console script. A stop goes past everything that is slow to import or able to break."""

from __future__ import annotations

import sys

_HELP = frozenset({"--help", "-h"})


def main() -> None:
    """Does what was typed; ends the process with its exit code."""
    try:
        common, words = common_first(sys.argv[1:])
        if words[:1] == ["stop"] and not _HELP & {*words}:
            from deploytool.cli.stopnow import run

            log_stop(common)
            sys.argv[1:] = words
            sys.exit(run(words[1:]))
        sys.argv[1:] = [*common, *words]
        from deploytool.cli.main import main as everything
    except KeyboardInterrupt:  # in a stop, or while the rest is still being read in
        from deploytool.cli.output import broken_off

        sys.exit(broken_off())
    everything()


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
    """Logs a stop as it was asked to. What can't be opened is said, and stops no stop."""
    from deploytool.fleet.exchange_log import LOG

    LOG.verbose = "--verbose" in common
    name = None
    for word, following in zip(common, [*common[1:], ""], strict=True):
        if word == "--log-file":
            name = following
        elif word.startswith("--log-file="):
            name = word.partition("=")[2]
    if name is None:
        return
    try:
        LOG.open(name)
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or str(error)
        try:
            print(f"No log is written: {name!r}: {why}", file=sys.stderr, flush=True)
        except (OSError, ValueError, AttributeError):
            return
