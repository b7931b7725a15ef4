"""Signs and verifies with OpenSSH (``ssh-keygen -Y``): the one place that asks it to.

A key is whatever ssh-keygen(1) takes: a private key's file, or a public key's whose private half
the agent holds. Who may sign is an allowed-signers file; a signature made for another namespace,
by a stranger, or over other bytes is none.
"""

from __future__ import annotations

import os
import subprocess
import tempfile
from pathlib import Path

from deploytool.errors import EnvironmentProblem, InputError

_SIGN_S = 60
"""A key in hardware waits for a finger."""
_VERIFY_S = 10
_BEGIN, _END = "-----BEGIN SSH SIGNATURE-----\n", "-----END SSH SIGNATURE-----\n"
_MEANS = "Nothing was signed, and nothing was changed."


class BadSignature(ValueError):
    """The signature is not one that may be believed; says why."""


def sign(content: bytes, key: Path, namespace: str) -> str:
    """OpenSSH's armoured signature over ``content``, good in this ``namespace`` only.

    Raises:
        InputError: the key can't be used (missing, or its passphrase is not in an agent).
        EnvironmentProblem: there is no ``ssh-keygen``, or it does not end in time.
    """
    done = _keygen(["sign", "-f", str(key), "-n", namespace], content, _SIGN_S)
    signature = done.stdout.decode("ascii", "replace")
    if done.returncode != 0 or not is_armoured(signature):
        raise InputError(
            f"{key} can't sign: {_last(done)}",
            _MEANS,
            f"Name a private key, or load it first: ssh-add {key}",
        )
    return signature


def is_armoured(signature: str) -> bool:
    """Whether this is one armoured SSH signature and nothing else."""
    whole = signature.startswith(_BEGIN) and signature.endswith(_END)
    return whole and signature.count("-----BEGIN") == 1


def verify(content: bytes, signature: str, signers: Path, namespace: str) -> str:
    """Who signed ``content``: the name that the allowed-signers file gives that key.

    Raises:
        BadSignature: nobody who may did.
        EnvironmentProblem: there is no ``ssh-keygen``, or it does not end in time.
    """
    if not is_armoured(signature):
        raise BadSignature("there is no armoured SSH signature")
    if not signers.is_file():
        raise BadSignature(f"there is no signers file {signers}")
    with tempfile.NamedTemporaryFile("w", prefix="deploytool-", suffix=".sig") as file:
        file.write(signature)
        file.flush()
        whose = _keygen(["find-principals", "-s", file.name, "-f", str(signers)], b"", _VERIFY_S)
        names = whose.stdout.decode("utf-8", "replace").splitlines()
        if whose.returncode != 0 or not names:
            raise BadSignature(f"no signer in {signers} has the key that signed it")
        if len(names) > 1 or any(letter in names[0] for letter in "*?,"):
            raise BadSignature(f"{signers} has no one name for its key: {', '.join(names)}")
        options = ["verify", "-f", str(signers), "-I", names[0], "-n", namespace, "-s", file.name]
        done = _keygen(options, content, _VERIFY_S)
    if done.returncode != 0:
        raise BadSignature(f"it is not {names[0]}'s signature in {namespace}: {_last(done)}")
    return names[0]


def _keygen(
    arguments: list[str], content: bytes, deadline_s: float
) -> subprocess.CompletedProcess[bytes]:
    # No terminal and no askpass: a key whose passphrase nobody gave fails, and never waits.
    own = {**os.environ, "SSH_ASKPASS_REQUIRE": "never", "LC_ALL": "C"}
    try:
        return subprocess.run(
            ["ssh-keygen", "-Y", *arguments],
            input=content, capture_output=True, timeout=deadline_s, check=False, env=own,
            start_new_session=True,
        )  # fmt: skip
    except FileNotFoundError as error:
        raise EnvironmentProblem(
            "There is no ssh-keygen on this machine.", _MEANS, "sudo apt-get install openssh-client"
        ) from error
    except subprocess.TimeoutExpired as error:
        raise EnvironmentProblem(
            f"ssh-keygen -Y {arguments[0]} did not end within {deadline_s:g} s.",
            _MEANS,
            "Look at the agent or the key's device, then try again.",
        ) from error


def _last(done: subprocess.CompletedProcess[bytes]) -> str:
    lines = done.stderr.decode("utf-8", "replace").strip().splitlines()
    return lines[-1] if lines else f"ssh-keygen exited with {done.returncode}"
