"""The verbs: what each is asked with, and what it answers. Pure.

A request is a value; its class is the verb. ``changes`` says whether it changes the host: if so, a
lost answer leaves its effect in doubt. Paths and commands are never in a request: they are in the
agent's settings, which the inventory renders.
"""

from __future__ import annotations

import deploytool.agent.model  # noqa: F401 # its records are kinds of fields below
from deploytool.agent.record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import ClassVar

    from deploytool.agent.model import (
        Asked,
        HostEvidence,
        KnownRelease,
        Latch,
        MembersFile,
        Other,
        Survey,
    )
    from deploytool.agent.words import (
        Count,
        Digest,
        Hex,
        Name,
        Pid,
        Seconds,
        Text,
        Time,
        Word,
    )


class Request(Record):
    """What is asked of one host."""

    verb: ClassVar[str] = ""
    changes: ClassVar[bool] = True
    payload: ClassVar[bool] = False
    """Whether ``size`` bytes follow the request."""


class Probe(Request):
    """Shows the host. ``release`` and ``manifest`` ask whether it holds that release.

    Without ``manifest`` the label that the release has here is shown. ``only_target``: a process of
    another release than ``release`` is neither read nor asked for its status.
    """

    verb = "probe"
    changes = False
    requires: tuple[Word, ...] = ()
    release: Digest | None = None
    manifest: Digest | None = None
    read_disk: bool = True
    only_target: bool = False
    surroundings: bool = False
    """Whether to show what else may start the service: a proof asks for it, a wave does not."""
    whole: bool = False
    """Whether libraries are read although nothing shows that they were changed."""
    ask: bool = True
    """Whether the running process is asked what it says of itself."""
    known: tuple[KnownRelease, ...] = ()
    """Releases to be found wherever they lie, beside those that this host knows of."""


class TakeLock(Request):
    """Takes the host's lock for a plan. ``show``: answers with evidence, seen under the lock.

    ``rollout``: the plan that other hosts' marks name. ``before``: the release to go back to, where
    whoever takes the lock knows it better than the host. ``take_over``: the token of the lock that
    is taken away.
    """

    verb = "lock"
    holder: Word
    purpose: Word
    plan: Word
    release: Digest | None
    before: Digest | None = None
    knows_before: bool = False
    rollout: Word | None = None
    take_over: Count | None = None
    show: Probe | None = None


class Renew(Request):
    """Gives the holder a later token: what it sent before is refused from then on."""

    verb = "renew"
    token: Count
    holder: Word
    purpose: Word
    plan: Word


class Unlock(Request):
    """Releases the lock. ``release``: proven on all hosts; ``keep``: how many stay."""

    verb = "unlock"
    token: Count
    keep: Count
    release: Digest | None = None


class MarkHold(Request):
    """Writes down here that the fleet was left MIXED or UNKNOWN."""

    verb = "hold"
    token: Count
    verdict: Word
    holder: Word
    plan: Word
    next: Word


class StageRelease(Request):
    """Receives a release, reads it back, and has it say its version. Nothing is switched.

    The payload is the manifest (``manifest_size`` bytes), then the artifact.
    """

    verb = "stage"
    payload = True
    token: Count
    release: Digest
    artifact_size: Count
    manifest: Digest
    manifest_size: Count
    seconds: Seconds
    latch: Hex | None = None

    @property
    def size(self) -> int:
        """Bytes that follow."""
        return int(self.manifest_size + self.artifact_size)


class Activate(Request):
    """Switches and restarts (``release`` None: nothing is to run), and shows what came of it.

    ``deadman``: without a confirmation within so many seconds the host stops serving; 0: never.
    """

    verb = "activate"
    token: Count
    release: Digest | None
    deadman: Seconds = 0
    latch: Hex | None = None
    show: Probe


class Confirm(Request):
    """Writes down that this very process was verified; refused where another runs by now."""

    verb = "confirm"
    token: Count
    release: Digest
    pid: Pid
    start: Count
    boot: Word


class Expire(Request):
    """The host's own timer: no confirmation came, so this host stops serving."""

    verb = "expire"
    token: Count


class Retire(Request):
    """This host serves no more, and a reboot does not change that."""

    verb = "retire"
    token: Count


class Halt(Request):
    """Latches the stop, and has the running process stop sending. No lock, no token.

    ``hosts``: which hosts the stop is for, names between blanks.
    The shell before the agent acts on the verb's name alone, and signals the service (stub.sh).
    """

    verb = "halt"
    latch: Hex
    by: Word
    reason: Text
    since: Time
    seconds: Seconds
    hosts: Text | None = None


class HaltRelease(Halt):
    """A halt where a release whose SHA-256 begins with ``only`` may run; nothing elsewhere."""

    verb = "halt_release"
    only: Hex


class KillStrays(Request):
    """Kills what may act as the service and is not of its control group."""

    verb = "kill_strays"
    seconds: Seconds


class LookAfterStop(Request):
    """Shows what is alive that may act as the service."""

    verb = "survey"
    changes = False


class ShowLatch(Request):
    """Shows the stop that holds here, if any."""

    verb = "latch"
    changes = False


class ShowLog(Request):
    """Shows the last lines that the service printed."""

    verb = "log"
    changes = False
    lines: Count


class RenewLease(Request):
    """Renews the artifact's lease by the nonce that it issued; None asks for the first."""

    verb = "lease"
    nonce: Word | None = None


class Resume(Request):
    """Lets a stopped host in again, by a request that a second person signed (the payload)."""

    verb = "resume"
    payload = True
    latch: Hex | None
    size: Count


class LetIn(Request):
    """Lets a stopped host in again where nobody can sign for it: by root itself, and never else."""

    verb = "let_in"
    by: Word
    reason: Text


class FlagStep(Request):
    """One step of arming or disarming: observe, prepare, commit, settle, disarm.

    ``size`` bytes follow ``prepare``: a sealed certificate, or nothing to ask for a nonce.
    """

    verb = "flag"
    payload = True
    step: Word
    flag: Name | None = None
    size: Count = 0

    @property
    def changes(self) -> bool:  # type: ignore[override] # of one verb, some steps only look
        """Whether this step changes anything."""
        return self.step != "observe"


# --- answers ------------------------------------------------------------------------------------


class Answer(Record):
    """What a verb answers where it has nothing to show."""


class RefusedAnswer(Answer):
    """Why a verb did nothing. ``code`` decides; ``text`` is for a person."""

    code: Word
    text: Text


class LookAnswer(Answer):
    """Evidence."""

    evidence: HostEvidence


class Locked(Answer):
    """The token of the lock, and evidence that was seen under it.

    ``evidence`` None: it was not asked for, or could not be taken; ``unshown`` says why.
    """

    token: Count
    evidence: HostEvidence | None = None
    unshown: Text = ""


class Unlocked(Answer):
    """Releases that went, because newer ones are kept."""

    pruned: tuple[Digest, ...] = ()


class Staged(Answer):
    """``direct``: it was read back past the page cache; ``sent`` False: it was here already."""

    sent: bool
    direct: bool


class Activated(Answer):
    """What the supervisor complained of, if it did, and what was seen afterwards.

    ``evidence`` None: the host was switched and then could not be shown; ``complaint`` says why.
    """

    complaint: Text = ""
    evidence: HostEvidence | None


class Halted(Answer):
    """What came of a halt.

    ``skipped``: another release runs here. ``latched``: deploytool's own latch is written;
    ``synced``: it is on the disk. ``said``: the artifact's answer, None where it has no such
    command. ``strays``: what acts as the service, or could not be seen, and was not halted.
    ``members``: the fleet's own list, so that a stop hears of a host that it did not tell.
    """

    skipped: bool = False
    latched: bool = False
    synced: bool = False
    said: Asked | None = None
    strays: tuple[Other, ...] = ()
    members: MembersFile | None = None


class Killed(Answer):
    """How many processes were sent SIGKILL."""

    killed: Count


class Surveyed(Answer):
    """What is alive. ``members``: as a halt shows it."""

    survey: Survey
    members: MembersFile | None = None


class LatchShown(Answer):
    """The stop that holds here, if any; ``latched`` also where its latch can't be read."""

    latch: Latch | None = None
    latched: bool = False
    fenced: bool = False


class LogShown(Answer):
    """The last lines that the service printed, the oldest first."""

    lines: tuple[Text, ...]


class Told(Answer):
    """What the artifact answered to a command."""

    said: Asked


class Resumed(Answer):
    """``said``: the artifact's answer. ``released``: the latch is gone, and the host may serve."""

    said: Asked | None = None
    released: bool = False


ANSWERS: Mapping[type[Request], type[Answer]] = {
    Probe: LookAnswer,
    TakeLock: Locked,
    Renew: Locked,
    Unlock: Unlocked,
    MarkHold: Answer,
    StageRelease: Staged,
    Activate: Activated,
    Confirm: Answer,
    Expire: Answer,
    Retire: Answer,
    Halt: Halted,
    HaltRelease: Halted,
    KillStrays: Killed,
    LookAfterStop: Surveyed,
    ShowLatch: LatchShown,
    ShowLog: LogShown,
    RenewLease: Told,
    Resume: Resumed,
    LetIn: Resumed,
    FlagStep: Told,
}
"""What each request is answered with."""

VERBS: Mapping[str, type[Request]] = {request.verb: request for request in ANSWERS}
"""Each verb's request, by its name on the wire."""
