"""Where words go: documents to stdout, people's text to stdout or, beside a document, to stderr."""

from __future__ import annotations

import json
import os
import sys
from shlex import join, quote
from typing import Any, TextIO

from deploytool.core.text import one_line
from deploytool.errors import DeploytoolError, Interrupted, Refused

_SCHEMA_VERSION = 1
"""Another one where a member of a document goes, or means something else."""
_SHOWN_AT_MOST = 64
_STYLES = {"green": "32", "red": "1;31", "bold": "1"}


def wants_json() -> bool:
    """Whether ``--json`` was given: known before options are parsed, so that errors obey it too."""
    return "--json" in sys.argv[1:]


def inventory_named() -> str:
    """The inventory as it was typed after ``-i``, for advice that is pasted; else a placeholder."""
    words = sys.argv[1:]
    for word, following in zip(words, [*words[1:], ""], strict=True):
        if word in {"-i", "--inventory"} and following:
            return quote(following)
        if word.startswith("--inventory="):
            return quote(word.partition("=")[2])
    return quote(os.environ.get("DEPLOYTOOL_INVENTORY") or "INVENTORY")


def report_bug() -> str:
    """Writes a report of a bug of ours where only its reader can see it, and says where.

    Raises:
        OSError: there is no folder that it can be written to.
    """
    import tempfile
    import traceback

    from deploytool import __version__

    descriptor, path = tempfile.mkstemp(prefix="deploytool-bug-", suffix=".txt")
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(f"deploytool {__version__}, Python {sys.version}\n\n{traceback.format_exc()}")
    return path


def path_hint() -> str | None:
    """What to type first where advice that begins with ``deploytool`` would not be found."""
    import shutil
    from pathlib import Path

    typed = Path(sys.argv[0]).absolute()
    if typed.name != "deploytool" or shutil.which("deploytool"):
        return None
    activate = typed.with_name("activate")
    here = quote(str(activate))
    first = f". {here}" if activate.exists() else f"alias deploytool={quote(str(typed))}"
    return f"deploytool is not on your PATH; type first: {first}"


def colour(stream: Any) -> bool:  # noqa: ANN401 any text stream
    """Colour only on a terminal, and never with NO_COLOR (no-color.org)."""
    return bool(stream.isatty()) and not os.environ.get("NO_COLOR")


def clean(text: str) -> str:
    """What a host said, fit for a terminal: no control characters, no half characters."""
    return "".join(c if c.isprintable() or c == "\n" else "?" for c in text)


def put(text: str, stream: TextIO) -> None:
    """Prints a line. A reader that has gone away stops nothing: the rest goes nowhere."""
    put_as_is(clean(text), stream)


def put_as_is(text: str, stream: TextIO) -> None:
    """The same for a line that holds our own colours, and was cleaned before."""
    try:
        print(text, file=stream, flush=True)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def say(text: str = "", style: str = "") -> None:
    """A line for people; ``style`` as in ``painted``."""
    stream = sys.stderr if wants_json() else sys.stdout
    put_as_is(painted(text, style, stream), stream)


def painted(text: str, style: str, stream: Any) -> str:  # noqa: ANN401 any text stream
    """A cleaned text, in a style (``green``, ``red``, ``bold``) where the stream is a terminal."""
    code = _STYLES.get(style) if colour(stream) else None
    return clean(text) if code is None else f"\033[{code}m{clean(text)}\033[0m"


def document(value: dict[str, Any]) -> None:
    """The one JSON document of a command that was given ``--json``: ``deploytool/schemas/``."""
    if wants_json():
        value = {"schema_version": _SCHEMA_VERSION, **value}
        print(json.dumps(value, indent=2, sort_keys=False, default=str), flush=True)


def error_document(error: DeploytoolError) -> dict[str, Any]:
    """An error as a program reads it."""
    said: dict[str, Any] = {
        "exit": error.exit_code,
        "error": type(error).__name__,
        "what": error.what,
        "means": error.means,
        "now": error.now,
        "details": list(error.details),
        "findings": [finding.document() for finding in error.findings],
    }
    if isinstance(error, Refused):
        said["rule"] = error.rule
    return said


def show_error(error: DeploytoolError) -> None:
    """The details, and then the three lines: what happened, what it means, what to do now.

    Each is one line, whatever a host has said: it must not speak in our name.
    """
    bold, plain = ("\033[1m", "\033[0m") if colour(sys.stderr) else ("", "")
    red = "\033[31m" if bold else ""
    lines = [f"  {one_line(line)}" for line in error.details[:_SHOWN_AT_MOST]]
    if len(error.details) > _SHOWN_AT_MOST:
        lines.append(f"  ... and {len(error.details) - _SHOWN_AT_MOST} more lines (--json has all)")
    lines += [
        f"{bold}{red}What happened:{plain}  {one_line(error.what)}",
        f"{bold}What it means:{plain}  {one_line(error.means)}",
        f"{bold}What to do now:{plain} {one_line(error.now)}",
    ]
    if "deploytool " in error.now and (hint := path_hint()):
        lines.append(f"({clean(hint)})")
    print("\n".join(lines), file=sys.stderr, flush=True)


def broken_off() -> int:
    """Says that the user broke it off; gives the exit code."""
    again = f"deploytool status -i {inventory_named()}"
    if sys.argv[1:2] == ["stop"]:
        again = f"Press it again: {join(['deploytool', *sys.argv[1:]])}"
    stopped = Interrupted(
        "Interrupted.", "An operation in progress on a host may or may not have completed.", again
    )
    document(error_document(stopped))
    show_error(stopped)
    return stopped.exit_code


class Ended(Exception):
    """A command has said all it has to say, JSON included; only its exit code is left."""

    def __init__(self, error: DeploytoolError) -> None:
        super().__init__(error.what)
        self.error = error


def finish(value: dict[str, Any], error: DeploytoolError | None) -> None:
    """Ends a command that has a document of its own whether it went well or not.

    Raises:
        Ended: it didn't go well.
    """
    document({"exit": 0, **value} if error is None else {**error_document(error), **value})
    if error is not None:
        raise Ended(error)
