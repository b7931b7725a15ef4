"""What is exchanged with hosts, one line for each request and each answer: --verbose, --log-file.

Everything that asks a host passes here (``RemoteHost.call``, ``stop``'s ``SshChannel``, and the
script of ``host prepare``). Only fields that are known to be harmless are shown; of any other
the line says that it was there. It imports next to nothing, as a stop needs it, and holds no lock:
a line is one write, whole or not there, whatever interrupts it.
"""

from __future__ import annotations

import errno
import os
import stat
import sys
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Self

    from deploytool.agent.record import Record

_LINE_AT_MOST = 1000
"""Characters; a pipe takes so much at once (PIPE_BUF), so that lines of threads never mix."""
_TEXT_AT_MOST = 120
_SHOWN = frozenset(
    (
        *("artifact_size", "bit", "code", "complaint", "current", "deadman", "flag", "held_since"),
        *("holder", "keep", "killed", "main", "manifest", "manifest_size", "only", "phase", "pid"),
        *("plan", "purpose", "release", "rollout", "seconds", "sha", "since", "size", "state"),
        *("step", "target", "unshown", "verdict", "version", "way"),
    )
)
"""Fields whose numbers and words are shown. Any other may hold what must not lie in a log: the
text of a person, of the service or of a process's arguments, a token, a nonce, a signature."""
_MASKED = "*"
_SHA = 64


class ExchangeLog:
    """Where the lines go: to standard error, to a file, to both, or nowhere."""

    def __init__(self) -> None:
        self.verbose = False
        self._file: int | None = None

    @property
    def on(self) -> bool:
        """Whether any line goes anywhere."""
        return self.verbose or self._file is not None

    def open(self, path: str) -> None:
        """Appends to this file from now on; one that is made is its owner's alone (0600).

        Raises:
            OSError: it can't be opened, or is not a regular file.
        """
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOCTTY | os.O_NONBLOCK
        descriptor = os.open(path, flags, 0o600)
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            os.close(descriptor)
            raise OSError(errno.EINVAL, "Not a regular file", path)
        self.close()
        self._file = descriptor

    def close(self) -> None:
        """Writes to no file any more."""
        if self._file is not None:
            os.close(self._file)
            self._file = None

    def asks(self, host: str, verb: str, request: Record | None, payload: int = 0) -> Conversed:
        """Notes a request before it is sent; what is given notes its end.

        ``payload``: bytes that follow the request.
        """
        if self.on:
            more = f" +{payload} bytes" if payload else ""
            self.put(f"{host} > {verb}{_fields(request)}{more}")
        return Conversed(self, host, verb)

    def put(self, text: str) -> None:
        """Writes a line, with the moment before it."""
        now = time.time()
        moment = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(now))
        line = f"{moment}.{int(now % 1 * 1000):03d}Z {text}"
        if len(line) > _LINE_AT_MOST:
            line = line[: _LINE_AT_MOST - 3] + "..."
        data = line.encode("ascii", "replace") + b"\n"
        for descriptor in (self._file, _stderr() if self.verbose else None):
            if descriptor is None:
                continue
            try:
                os.write(descriptor, data)
            except OSError:
                continue  # a full disk or a closed pipe is no reason to stop what is logged


class Conversed:
    """One request that is under way. As a context it notes whatever ends it."""

    def __init__(self, log: ExchangeLog, host: str, verb: str) -> None:
        self._log = log
        self._head = f"{host} < {verb}"
        self._began = time.monotonic()
        self.answer: Record | None = None
        """What was answered, for the context's end."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, _kind: object, error: BaseException | None, _trace: object) -> None:
        if error is None:
            self.answered(self.answer)
        else:
            self.failed(error)

    def answered(self, answer: Record | None) -> None:
        """Notes the answer, and after how many seconds it came."""
        if self._log.on:
            self._log.put(f"{self._head} {self._seconds()}: ok{_fields(answer)}")

    def failed(self, error: BaseException) -> None:
        """Notes why there is no answer, or that it was a refusal."""
        if self._log.on:
            kind = getattr(error, "kind", None)
            said = type(error).__name__ if kind is None else kind.name
            doubt = ", in doubt" if getattr(error, "in_doubt", False) else ""
            text = _short(str(getattr(error, "text", error)))
            self._log.put(f"{self._head} {self._seconds()}: {said}{doubt}: {text}")

    def _seconds(self) -> str:
        return f"{time.monotonic() - self._began:.3f} s"


def _stderr() -> int | None:
    try:
        return sys.stderr.fileno()
    except (AttributeError, OSError, ValueError):
        return None


def _fields(record: Record | None) -> str:
    """`` name=value`` for each field that says something; of an object in it, what may be shown."""
    if record is None:
        return ""
    shown = []
    for name, value in record.to_json().items():
        if isinstance(value, dict):
            inner = [f"{k}={_value(v)}" for k, v in value.items() if k in _SHOWN and _plain(v)]
            shown.append(f" {name}={{{' '.join(inner)}}}")
        elif isinstance(value, list):
            shown.append(f" {name}=[{len(value)}]")
        elif _plain(value):
            open_ = name in _SHOWN or isinstance(value, bool)
            shown.append(f" {name}={_value(value) if open_ else _MASKED}")
    return "".join(shown)


def _plain(value: object) -> bool:
    return value is not None and value != "" and not isinstance(value, dict | list)


def _value(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    parts = str(value).split("/")  # a SHA-256 is known by its beginning
    return _short("/".join(part[:12] if len(part) == _SHA else part for part in parts))


def _short(text: str) -> str:
    """``text`` as part of a line: nothing in it ends the line or moves a cursor."""
    plain = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    return plain if len(plain) <= _TEXT_AT_MOST else plain[: _TEXT_AT_MOST - 3] + "..."


LOG = ExchangeLog()
"""This process's."""
