"""Ask the running router: the same file as its own client."""

from __future__ import annotations

import json
import os
import socket

TYPE_CHECKING = False  # a client is gone sooner than `typing` is imported
if TYPE_CHECKING:
    from typing import Any, Final

TIMEOUT_S: Final = 5.0
MAX_ANSWER: Final = 16 * 1024 * 1024


class NobodyAnsweredError(Exception):
    """No router answered, or not with anything that can be read."""


def ask(folder: str, request: dict[str, Any]) -> dict[str, Any]:
    """Send one request, give the answer."""
    try:
        line = _exchange(folder, json.dumps(request, ensure_ascii=False).encode() + b"\n")
        answer = json.loads(line)
    except (OSError, ValueError) as error:
        raise NobodyAnsweredError(f"no router answers in {folder}: {error}") from error
    if not isinstance(answer, dict) or "ok" not in answer:
        raise NobodyAnsweredError(f"what answers in {folder} is not a router")
    return answer


def _exchange(folder: str, line: bytes) -> bytes:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
            sock.settimeout(TIMEOUT_S)
            sock.connect(f"/proc/self/fd/{descriptor}/control.sock")
            sock.sendall(line)
            answer = bytearray()
            while len(answer) <= MAX_ANSWER:
                piece = sock.recv(1 << 16)
                if not piece:
                    return bytes(answer)
                answer += piece
            raise ValueError("the answer is too long")
    finally:
        os.close(descriptor)
