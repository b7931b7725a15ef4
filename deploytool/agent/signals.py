"""Signals by the interpreter's own module: what wraps it imports enumerations, which cost 5 ms."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    import signal as signal  # this name is what the others import
else:
    import _signal as signal

__all__ = ["signal"]
