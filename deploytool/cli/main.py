"""The command line: mounts the command groups and turns every end into an exit code."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from typing import Annotated

import typer

from deploytool import __version__
from deploytool.cli import flags, fleet, gate, host, logs, rehearse, release, rollout, status, stop
from deploytool.cli.output import (
    Ended,
    broken_off,
    document,
    error_document,
    inventory_named,
    report_bug,
    show_error,
    wants_json,
)
from deploytool.errors import DeploytoolError, InputError, Interrupted
from deploytool.fleet.exchange_log import LOG

app = typer.Typer(
    name="deploytool",
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    help=(
        "Puts a build on a fleet of identical servers over SSH and proves "
        "that every one runs it.\n\n"
        "A first look, on eight throwaway hosts on this machine:\n\n"
        "  deploytool rehearse\n\n"
        "On your own fleet:\n\n"
        "  deploytool release build 2026.1\n\n"
        "  deploytool plan -i inventories/production.yaml 2026.1\n\n"
        "  deploytool deploy -i inventories/production.yaml 2026.1\n\n"
        "Exit codes: 0 done and proven; 2 bad input; 3 refused by a rule, nothing changed; "
        "4 failed and brought back, proven; 5 MIXED or UNKNOWN; 6 stop not confirmed; "
        "130 interrupted; 1 a bug of ours."
    ),
)
app.add_typer(release.app, name="release")
app.add_typer(host.app, name="host")
app.add_typer(fleet.app, name="fleet")
app.add_typer(flags.app, name="flags")
status.register(app)
logs.register(app)
rollout.register(app)
stop.register(app)
rehearse.register(app)
gate.register(app)


def _version(value: bool) -> None:  # noqa: FBT001 typer's callback
    if value:
        typer.echo(f"deploytool {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    *,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Say the version.")
    ] = False,
    verbose: Annotated[
        bool,
        typer.Option(
            "--verbose",
            help="Show each request to a host, its answer and its time, on standard error; "
            "in any place of the command line. Secrets are masked.",
        ),
    ] = False,
    log_file: Annotated[
        Path | None,
        typer.Option(
            "--log-file", metavar="FILE", help="Append the same lines to FILE (mode 0600)."
        ),
    ] = None,
) -> None:
    del version
    LOG.verbose = verbose
    if log_file is None:
        return
    try:
        LOG.open(str(log_file))
    except (OSError, ValueError) as error:
        raise InputError(
            f"The log {log_file} can't be written: {getattr(error, 'strerror', None) or error}.",
            "Nothing was touched.",
            "Name a file that you may write to, in a folder that exists: --log-file FILE",
        ) from error


_USAGE_ERROR: type[Exception] = typer.BadParameter.__mro__[1]
"""What typer raises for wrong options; it has a copy of click of its own in some versions."""


def _run() -> int:
    try:
        ended = app(standalone_mode=False, prog_name="deploytool")
    except Ended as end:
        show_error(end.error)
        return end.error.exit_code
    except DeploytoolError as error:
        document(error_document(error))
        show_error(error)
        return error.exit_code
    except _USAGE_ERROR as error:
        context = getattr(error, "ctx", None)
        message = str(getattr(error, "format_message", error.__str__)())
        if message.startswith("Usage:"):  # no word was given: the help is the answer
            print(message, file=sys.stderr)
            return InputError.exit_code
        said = InputError(
            message,
            "Nothing was touched.",
            f"{context.command_path if context else 'deploytool'} --help",
        )
        document(error_document(said))
        show_error(said)
        return said.exit_code
    except (KeyboardInterrupt, typer.Abort):
        return broken_off()
    # Typer makes this of a Ctrl-C, without a word.
    if ended == Interrupted.exit_code:
        return broken_off()
    return ended if isinstance(ended, int) else 0


def main() -> None:
    """The console script."""
    # Whoever ends it politely gets what Ctrl-C gets: throwaway fleets go, and what is left is said.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        code = _run()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 1
    except Exception as error:  # noqa: BLE001 the last line of defence: said, written down, exit 1
        path = report_bug()
        bug = DeploytoolError(
            f"A bug of deploytool: {type(error).__name__}: {error}",
            "What it was doing may be half done; nothing is proven.",
            f"Send us the report in {path}, and look: deploytool status -i {inventory_named()}",
        )
        if wants_json():
            document(error_document(bug))
        show_error(bug)
        code = 1
    sys.exit(code)


if __name__ == "__main__":
    main()
