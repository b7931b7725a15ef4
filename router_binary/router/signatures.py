"""Who signed this: OpenSSH's signatures, checked by stock `ssh-keygen` beside the loop.

The signers are in a file of OpenSSH's form (`man ssh-keygen`, ALLOWED SIGNERS), which is read anew
for each check: who was taken out of it is out at once. Both steps of a check see the same bytes.
"""

import os
import re
import stat
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from router.subprocesses import DEADLINE_S, Ended, Subprocesses

MAX_SEALED: Final = 48 * 1024
MAX_SIGNERS: Final = 256 * 1024
BEGIN: Final = "-----BEGIN SSH SIGNATURE-----\n"
END: Final = "-----END SSH SIGNATURE-----\n"
# A name that stands for one person: a pattern (`*@example.com`) would stand for many.
NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@+-]{0,99}\Z")
NAMESPACE: Final = re.compile(r"[a-z.]{1,64}\Z")


class NotSignedError(Exception):
    """Nobody who may sign is known to have signed this; says why."""

    rule = "SIGNATURE"


Signer = Callable[[], str]
"""Gives the name of who signed, or raises NotSignedError."""


def unseal(text: str) -> tuple[bytes, str]:
    """Give what was signed, and the signature, out of one line with the signature under it.

    Raises NotSignedError.
    """
    if len(text.encode("utf-8", "replace")) > MAX_SEALED:
        raise NotSignedError(f"it has more than {MAX_SEALED} bytes")
    line, newline, signature = text.partition("\n")
    whole = signature.startswith(BEGIN) and signature.endswith(END)
    if not newline or not whole or signature.count("-----BEGIN") != 1:
        raise NotSignedError("it is not one line with one armoured SSH signature under it")
    return f"{line}\n".encode("utf-8", "replace"), signature


class Signatures:
    """Checks what is signed against the signers that this router was told of."""

    def __init__(self, subprocesses: Subprocesses, signers: Path | None) -> None:
        self._subprocesses = subprocesses
        self._path = signers

    def check(
        self, content: bytes, signature: str, namespace: str, done: Callable[[Signer], None]
    ) -> None:
        """Find out who signed `content` for `namespace`; `done` is called once, later.

        Raises NotSignedError where there are no signers that could be asked for.
        """
        if not NAMESPACE.match(namespace):
            raise ValueError(f"{namespace!r} is no namespace")
        _Check(
            self._subprocesses, self._signers(), (content, signature.encode()), namespace, done
        ).find()

    @property
    def any(self) -> bool:
        """Whether this router was told of signers."""
        return self._path is not None

    def knows(self, name: str) -> bool:
        """Whether this is the name of a signer. Raises NotSignedError where that can't be read."""
        for line in self._signers().decode("utf-8", "replace").splitlines():
            first = line.split(maxsplit=1)[:1]
            if first and not first[0].startswith("#") and name in first[0].strip('"').split(","):
                return bool(NAME.match(name))
        return False

    def _signers(self) -> bytes:
        if self._path is None:
            raise NotSignedError("this router was started without --signers: it believes nobody")
        try:
            with self._path.open("rb") as file:
                found = os.fstat(file.fileno())
                content = file.read(MAX_SIGNERS + 1)
        except OSError as error:
            raise NotSignedError(f"the signers can't be read: {error}") from error
        if not stat.S_ISREG(found.st_mode) or found.st_uid not in (0, os.geteuid()):
            raise NotSignedError(f"{self._path} is not a file of root's")
        if found.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
            raise NotSignedError(f"{self._path} can be written by others than its owner")
        if len(content) > MAX_SIGNERS:
            raise NotSignedError(f"{self._path} has more than {MAX_SIGNERS} bytes")
        return content


class _Check:
    """One check: whose key it is, then whether that key signed these bytes."""

    __slots__ = ("_content", "_done", "_files", "_name", "_namespace", "_subprocesses", "_until_s")

    def __init__(
        self,
        subprocesses: Subprocesses,
        signers: bytes,
        signed: tuple[bytes, bytes],
        namespace: str,
        done: Callable[[Signer], None],
    ) -> None:
        self._subprocesses = subprocesses
        self._content, signature = signed
        self._files = (signers, signature)
        self._namespace = namespace
        self._done = done
        self._name = ""
        self._until_s = time.monotonic() + DEADLINE_S

    def find(self) -> None:
        command = ["ssh-keygen", "-Y", "find-principals", "-f", "{0}", "-s", "{1}"]
        self._subprocesses.run(command, self._found, files=self._files, until_s=self._until_s)

    def _found(self, ended: Ended) -> None:
        names = ended.output.splitlines()
        if ended.code is None or ended.code < 0:
            self._refuse(f"the signer can't be looked up: {ended.trouble}")
        elif ended.code != 0 or not names:
            self._refuse(f"its key is none of the signers' ({ended.trouble})")
        elif len(names) != 1 or not NAME.match(names[0]):
            self._refuse(f"the signers' file gives its key no single name, but {', '.join(names)}")
        else:
            self._name = names[0]
            command = ["ssh-keygen", "-Y", "verify", "-f", "{0}", "-s", "{1}"]
            command += ["-I", self._name, "-n", self._namespace]
            self._subprocesses.run(
                command,
                self._verified,
                reads=self._content,
                files=self._files,
                until_s=self._until_s,
            )

    def _verified(self, ended: Ended) -> None:
        if ended.code == 0:
            name = self._name
            self._done(lambda: name)
        else:
            self._refuse(
                f"it is not {self._name}'s signature of these bytes for {self._namespace} "
                f"({ended.trouble})"
            )

    def _refuse(self, why: str) -> None:
        def refused() -> str:
            raise NotSignedError(why)

        self._done(refused)
