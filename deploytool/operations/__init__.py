"""What a user can do to a fleet, as functions: the public Python API. See docs/api.md.

Each function takes values and gives one. The command line, the rehearsal and the benchmarks are its
callers. A name is imported when it is first used, so that a script loads no more than it needs.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from deploytool.operations.connect import connected
    from deploytool.operations.flags import (
        FlagChange,
        FlagStatus,
        arm,
        disarm,
        flag_status,
        signing_key,
    )
    from deploytool.operations.hosts import (
        HostCheck,
        LetInResult,
        StrikeResult,
        check_hosts,
        install_signers,
        let_host_in,
        prepare_hosts,
        purge_host,
        retire_host,
        strike_host,
    )
    from deploytool.operations.proving import VerifyResult, logs, probe, status, verify
    from deploytool.operations.rollouts import (
        Candidate,
        RolloutEnd,
        deploy,
        find_candidate,
        find_interrupted,
        flags_to_turn_off,
        plan,
        resume,
        rollback,
    )
    from deploytool.operations.starting import StartResult, request_start, start
    from deploytool.operations.watching import watch
    from deploytool.operations.workspace import Workspace

__all__ = [
    "Candidate",
    "FlagChange",
    "FlagStatus",
    "HostCheck",
    "LetInResult",
    "RolloutEnd",
    "StartResult",
    "StrikeResult",
    "VerifyResult",
    "Workspace",
    "arm",
    "check_hosts",
    "connected",
    "deploy",
    "disarm",
    "find_candidate",
    "find_interrupted",
    "flag_status",
    "flags_to_turn_off",
    "install_signers",
    "let_host_in",
    "logs",
    "plan",
    "prepare_hosts",
    "probe",
    "purge_host",
    "request_start",
    "resume",
    "retire_host",
    "rollback",
    "signing_key",
    "start",
    "status",
    "strike_host",
    "verify",
    "watch",
]

_MODULES = {
    "connect": ("connected",),
    "flags": (
        "FlagChange",
        "FlagStatus",
        "arm",
        "disarm",
        "flag_status",
        "signing_key",
    ),
    "hosts": (
        "HostCheck",
        "LetInResult",
        "StrikeResult",
        "check_hosts",
        "install_signers",
        "let_host_in",
        "prepare_hosts",
        "purge_host",
        "retire_host",
        "strike_host",
    ),
    "proving": (
        "VerifyResult",
        "logs",
        "probe",
        "status",
        "verify",
    ),
    "rollouts": (
        "Candidate",
        "RolloutEnd",
        "deploy",
        "find_candidate",
        "find_interrupted",
        "flags_to_turn_off",
        "plan",
        "resume",
        "rollback",
    ),
    "starting": (
        "StartResult",
        "request_start",
        "start",
    ),
    "watching": ("watch",),
    "workspace": ("Workspace",),
}
_PLACES = {name: module for module, names in _MODULES.items() for name in names}

if not TYPE_CHECKING:

    def __getattr__(name: str) -> object:
        if name not in _PLACES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        return getattr(import_module(f"{__name__}.{_PLACES[name]}"), name)
