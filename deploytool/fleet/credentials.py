"""Who we are to a host: the keys that OpenSSH would offer, from files and from an agent.

Paramiko knows one agent (``SSH_AUTH_SOCK``), offers all of its keys or none, and takes none from
it for a file that needs a passphrase. OpenSSH's ``IdentitiesOnly`` and ``IdentityAgent`` do more.
"""

from __future__ import annotations

import base64
import binascii
import socket
from collections.abc import Iterator
from pathlib import Path

import paramiko
from cryptography.exceptions import UnsupportedAlgorithm
from paramiko.agent import AgentSSH
from paramiko.pkey import UnknownKeyType
from paramiko.ssh_exception import AuthenticationException, BadAuthenticationType, SSHException

from deploytool.fleet.sshconfig import Route

_NEW_FORMAT = b"openssh-key-v1\0"
_KEY_BYTES_AT_MOST = 64 * 1024


class Agent(AgentSSH):
    """The SSH agent behind a socket.

    Raises:
        OSError: nobody answers there, within ``deadline_s``.
        SSHException: who answers is no agent.
    """

    def __init__(self, path: str, deadline_s: float) -> None:
        super().__init__()
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            self._socket.settimeout(deadline_s)
            self._socket.connect(path)
            self._connect(self._socket)  # type: ignore[attr-defined] # left out of the stubs
        except BaseException:
            self._socket.close()
            raise

    def close(self) -> None:
        """Hangs up."""
        self._socket.close()


class Credentials:
    """Offers a host the keys of a route, one after the other, until it is content.

    It stands where paramiko calls the ``authenticate`` of an ``AuthStrategy``.
    """

    def __init__(self, way: Route, deadline_s: float) -> None:
        self._way = way
        self._deadline_s = deadline_s
        self._agent: Agent | None = None
        self._asked = False
        self._unused: list[str] = []
        """Why some key was not offered: what a person wants to read when none was accepted."""

    def authenticate(self, transport: paramiko.Transport) -> list[str]:
        """Logs in.

        Raises:
            AuthenticationException: no key is accepted, or there was none to offer.
        """
        try:
            return self._offer(transport)
        finally:
            if self._agent is not None:
                self._agent.close()

    def _held(self) -> tuple[paramiko.PKey, ...]:
        """What the agent holds. It is asked only where its keys are needed, and once."""
        if self._agent is None and self._way.agent is not None and not self._asked:
            self._asked = True
            try:
                self._agent = Agent(self._way.agent, self._deadline_s)
            except (OSError, SSHException) as error:
                self._unused.append(f"the agent at {self._way.agent} does not answer: {error}")
        return self._agent.get_keys() if self._agent is not None else ()

    def _offer(self, transport: paramiko.Transport) -> list[str]:
        offered, further = 0, list[str]()
        for key in self._keys():
            offered += 1
            try:
                further = transport.auth_publickey(self._way.user, key)
            except BadAuthenticationType as error:
                allowed = ", ".join(error.allowed_types)
                raise AuthenticationException(f"it takes no keys, only {allowed}") from error
            except AuthenticationException:
                pass  # the next one; what was tried is told when there is none left
            except (SSHException, EOFError) as error:
                raise AuthenticationException(
                    f"it hung up at key {offered} ({str(error) or 'closed'}); where an agent holds "
                    "many keys, name the one with IdentityFile and IdentitiesOnly"
                ) from error
            if transport.is_authenticated():
                return []
        keys = "1 key" if offered == 1 else f"{offered} keys"
        text = f"it accepted none of {keys}" if offered else "there is no key to offer"
        if further:
            text = f"it wants more than a key ({', '.join(further)}), which is not supported"
        raise AuthenticationException("; ".join((text, *self._unused)))

    def _keys(self) -> Iterator[paramiko.PKey]:
        named: set[bytes] = set()
        for path in map(Path, self._way.identity_files):
            own = from_file(path)
            halves = public_halves(path) if own is None else {own.asbytes()}
            named |= halves
            if own is not None:
                yield own
            elif mine := [key for key in self._held() if key.asbytes() in halves]:
                yield from mine
            else:
                why = "needs a passphrase, or is no key" if path.is_file() else "is not there"
                self._unused.append(f"{path} {why}, and no agent holds it")
        if not self._way.identities_only:
            yield from (key for key in self._held() if key.asbytes() not in named)


def from_file(path: Path) -> paramiko.PKey | None:
    """The private key in a file; None where it can't be used without more."""
    try:
        return paramiko.PKey.from_path(path)
    except (OSError, ValueError, TypeError, SSHException, UnknownKeyType, UnsupportedAlgorithm):
        # Encrypted, of a kind that only an agent can use, a public half, or not there.
        return None


def public_halves(path: Path) -> set[bytes]:
    """The public key of an identity, in SSH's encoding: from the file itself or ``.pub`` beside."""
    found = set()
    for file in (path, path.with_name(f"{path.name}.pub")):
        try:
            with file.open("rb") as opened:
                text = opened.read(_KEY_BYTES_AT_MOST)
            half = _public(text)
        except (OSError, ValueError):
            continue
        found |= {half} if half else set()
    return found


def _public(text: bytes) -> bytes | None:
    """The public key in a ``.pub`` file, or in a private key of OpenSSH's own format."""
    if not text.startswith(b"-----BEGIN"):
        words = text.split()
        return base64.b64decode(words[1], validate=True) if len(words) > 1 else None
    body = b"".join(line for line in text.splitlines() if b"-----" not in line)
    try:
        blob = base64.b64decode(body, validate=True)
    except binascii.Error:
        return None  # an older format, with headers: it has no public half in the clear
    if not blob.startswith(_NEW_FORMAT):
        return None
    message = paramiko.Message(blob[len(_NEW_FORMAT) :])
    for _ in ("cipher", "kdf", "options of the kdf"):
        message.get_string()
    return message.get_string() if message.get_int() == 1 else None
