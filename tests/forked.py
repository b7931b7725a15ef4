"""The command line in a process of its own, without the third of a second that imports take."""

from __future__ import annotations

import io
import os
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from subprocess import CompletedProcess

from deploytool.cli import main


def deploytool(
    *words: str, cwd: Path, variables: Mapping[str, str], timeout_s: float
) -> CompletedProcess[str]:
    """Runs one command in a fork of this process: its own streams, folder, variables and end."""
    with tempfile.TemporaryFile() as output, tempfile.TemporaryFile() as errors:
        child = os.fork()
        if child == 0:
            os._exit(_command(words, cwd, variables, output.fileno(), errors.fileno()))
        code = _end(child, time.monotonic() + timeout_s)
        texts = [_text(file) for file in (output, errors)]
    return CompletedProcess([sys.executable, "-m", main.__name__, *words], code, *texts)


def _command(
    words: tuple[str, ...], cwd: Path, variables: Mapping[str, str], output: int, errors: int
) -> int:
    """In the child: the command's exit code."""
    os.chdir(cwd)
    os.environ.clear()
    os.environ.update(variables)
    for descriptor, into in ((os.open(os.devnull, os.O_RDONLY), 0), (output, 1), (errors, 2)):
        os.dup2(descriptor, into)
    sys.stdin, sys.stdout, sys.stderr = (
        io.TextIOWrapper(os.fdopen(number, mode), write_through=number > 0)
        for number, mode in ((0, "rb"), (1, "wb"), (2, "wb"))
    )
    sys.argv = [main.__file__, *words]
    try:
        main.main()
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:  # noqa: BLE001 # the interpreter's own way to say it
        sys.excepthook(*sys.exc_info())
        return 1
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
    return 0


def _end(child: int, until: float) -> int:
    while time.monotonic() < until:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.005)
    os.kill(child, 9)
    os.waitpid(child, 0)
    raise TimeoutError("the command did not end")


def _text(file: io.BufferedIOBase) -> str:
    file.seek(0)
    return file.read().decode()
