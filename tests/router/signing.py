"""Operators who sign: real keys, real `ssh-keygen`."""

from __future__ import annotations

import subprocess
from pathlib import Path


class Operator:
    """Somebody with a key of their own."""

    def __init__(self, folder: Path, name: str) -> None:
        self.name = name
        self._key = folder / f"key-{name}"
        command = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", name, "-f", str(self._key)]
        subprocess.run(command, check=True, timeout=10)

    def line(self, options: str = "", name: str = "") -> str:
        """The operator's line in an allowed-signers file."""
        kind, key, _ = self._key.with_suffix(".pub").read_text().split()
        return f"{name or self.name} {options} {kind} {key}\n"

    def sign(self, content: bytes, namespace: str = "parity.deploytool") -> str:
        command = ["ssh-keygen", "-q", "-Y", "sign", "-f", str(self._key), "-n", namespace]
        done = subprocess.run(command, input=content, capture_output=True, check=True, timeout=10)
        return done.stdout.decode()
