"""Who may change this host, how far a rollout has come on it, and what is kept when it ends."""

from __future__ import annotations

from deploytool.agent import marks
from deploytool.agent.host import Refusal
from deploytool.agent.model import Finished, Hold, Lock, RolloutMark
from deploytool.agent.record import Malformed
from deploytool.agent.requests import Answer, Locked, Unlocked
from deploytool.agent.verbs import evidence
from deploytool.agent.words import is_digest

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from collections.abc import Set as AbstractSet

    from deploytool.agent.host import AgentHost
    from deploytool.agent.port import Payload
    from deploytool.agent.requests import MarkHold, Renew, TakeLock, Unlock

NO_ROLLOUT = frozenset({"retire", "start"})
"""Purposes that leave nothing to be finished or undone."""
TEMPORARY = (".incoming.", ".damaged.")
"""How names of unfinished and broken copies begin."""


# --- what asking for the lock leads to: pure ----------------------------------------------------


def is_fresh(request: TakeLock, lock: Lock | None, newest: int, *, damaged: bool) -> bool:
    """Whether the request gets a new token; else the lock is its own already.

    ``damaged``: there is a lock that can't be read. It is taken over by the newest token of this
    host, which is what a look at it shows.

    Raises:
        Refusal: another has the lock.
    """
    if damaged:
        if request.take_over == newest:
            return True
        advice = f"its holder is not known; take the lock over, by token {newest}"
        raise Refusal("damaged", f"the lock of this host can't be read: {advice}")
    if lock is None:
        return True
    if lock.plan == request.plan:
        return False
    held = f"{lock.holder} holds the lock for {lock.purpose}, plan {lock.plan}, since {lock.since}"
    if request.take_over is None:
        raise Refusal("locked", held)
    if request.take_over != lock.token:
        text = f"{held}, with token {lock.token}, not {request.take_over}"
        raise Refusal("stale-token", text)
    return True


def next_mark(
    request: TakeLock, mark: RolloutMark | None, linked: str | None, now: int, *, damaged: bool
) -> RolloutMark | None:
    """What is marked for the rollout; None: what is there stays. It says what this host had before.

    ``damaged``: there is a mark that can't be read. Only where the request knows what this host had
    before is it replaced, by one that says that something was begun here.

    Raises:
        Refusal: what this host had before can't be told.
    """
    if damaged and (not request.knows_before or request.purpose in NO_ROLLOUT):
        advice = "deploytool resume or rollback replaces it, where another host knows the rollout"
        raise Refusal("damaged", f"the mark of a rollout here can't be read: {advice}")
    if request.purpose in NO_ROLLOUT:
        return None
    other = mark is not None and request.knows_before and request.release != mark.target
    if mark is not None and mark.touched and other:
        # Another release takes the place of the one that was on its way; what was before, was.
        return mark.but(target=request.release, since=now)
    if mark is not None and (mark.touched or not request.knows_before):
        return None
    before, phase = (mark.before if mark is not None else linked), "locked"
    if damaged:
        before, phase = request.before, "activating"
    elif request.knows_before and request.before != before:
        # The rollout was finished here, and its mark removed: the request knows more than the host.
        before, phase = request.before, "confirmed"
    return RolloutMark(
        plan=request.rollout or request.plan,
        target=request.release,
        before=before,
        phase=phase,
        since=now,
    )


# --- taking and renewing ------------------------------------------------------------------------


def lock(host: AgentHost, request: TakeLock, _: Payload) -> Locked:
    """Takes the lock, or takes it over, and marks the rollout with it."""
    with host.mutex():
        token = _take(host, request)
    if request.show is None:
        return Locked(token=token)
    try:
        # A look does not hold up a change: whose lock it was seen under is in it.
        return Locked(token=token, evidence=evidence.look(host, request.show))
    except Refusal as refusal:
        return Locked(token=token, unshown=str(refusal)[:4096])


def _take(host: AgentHost, request: TakeLock) -> int:
    held, no_lock = _readable(host, "lock", Lock)
    mark, no_mark = _readable(host, "rollout", RolloutMark)
    newest = host.newest_token()
    now = int(host.system.machine.now())
    fresh = is_fresh(request, held, newest, damaged=no_lock)
    marked = next_mark(request, mark, host.linked(), now, damaged=no_mark)
    files: dict[str, Lock | RolloutMark] = {}
    if fresh or held is None:
        held = _new_lock(host, request, held, newest, now)
        files["lock"] = held
    if marked is not None:
        # Also where the lock is ours already: the disk may have had no room for the mark then.
        files["rollout"] = marked
    if files:
        try:
            host.put(**files)
        except Refusal:
            _give_back(host, held.token)
            raise
    return held.token


def _readable(host: AgentHost, name: str, kind: type[marks.Mark]) -> tuple[marks.Mark | None, bool]:
    """A mark, and whether it is there and can't be read."""
    try:
        return marks.read(host.state, name, kind), False
    except (OSError, Malformed):
        return None, True


def _new_lock(
    host: AgentHost, request: TakeLock | Renew, held: Lock | None, newest: int, now: int
) -> Lock:
    """A lock with a token that was never given out: it is on the disk before it is used."""
    token = max(newest, held.token if held is not None else 0) + 1
    host.put(token=str(token))
    return Lock(
        token=token, holder=request.holder, purpose=request.purpose, plan=request.plan, since=now
    )


def _give_back(host: AgentHost, token: int) -> None:
    """A refused request holds no lock: one without a mark would not say what to go back to."""
    try:
        held = marks.read_lock(host.state)
        if held is not None and held.token == token:
            marks.remove(host.state, "lock")
    except (OSError, Malformed) as error:
        text = f"the mark can't be written, and {host.state.path}/lock not removed: {error}"
        raise Refusal("lock-left", text) from error


def renew(host: AgentHost, request: Renew, _: Payload) -> Locked:
    """A later token for a lock that is held; what its holder sent before is refused."""
    with host.mutex():
        held = host.check_token(request.token)
        now = int(host.system.machine.now())
        new = _new_lock(host, request, held, host.newest_token(), now)
        host.put(lock=new)
    return Locked(token=new.token)


def hold(host: AgentHost, request: MarkHold, _: Payload) -> Answer:
    """Marks that the fleet is not what it should be, so that every look at this host shows it."""
    with host.mutex():
        host.check_token(request.token)
        since = int(host.system.machine.now())
        held = Hold(
            verdict=request.verdict,
            holder=request.holder,
            plan=request.plan,
            next=request.next,
            since=since,
        )
        host.put(held=held)
    return Answer()


# --- releasing ----------------------------------------------------------------------------------


def unlock(host: AgentHost, request: Unlock, _: Payload) -> Unlocked:
    """Releases the lock; old releases go. A hold ends, whether it can be read or not."""
    with host.mutex():
        host.check_token(request.token)
        linked = host.linked()
        mark = host.mark("rollout", RolloutMark)
        # A recovery that finds the same rollout unfinished on another host needs it. A rollout that
        # was only refused here finished nothing, and must not hide the one before it.
        if mark is not None and (mark.touched or mark.target == request.release):
            done = Finished(plan=mark.plan, target=mark.target, before=mark.before)
            if mark.before == linked:
                host.put(finished=done)
            else:
                host.put(finished=done, previous=mark.before or "none")
        pruned = _prune(host, request.keep, linked)
        # The lock goes last: a mark without a lock would be taken for the next one's.
        host.remove("held", "rollout", "lock")
    return Unlocked(pruned=pruned)


def to_prune(
    releases: Sequence[tuple[str, int]], keep: int, spared: AbstractSet[str | None]
) -> tuple[str, ...]:
    """Those that go, of releases and the times at which they came: all but the newest. Pure."""
    newest_first = sorted(releases, key=lambda release: (-release[1], release[0]))
    return tuple(name for name, _ in newest_first[keep:] if name not in spared)


def _prune(host: AgentHost, keep: int, linked: str | None) -> tuple[str, ...]:
    """Removes old releases, but never the active one, the one before, and what was stopped."""
    releases = host.releases
    gone: list[str] = []
    try:
        names = releases.names()
        for name in names:
            if name.startswith(TEMPORARY):
                releases.remove_tree(name)
        spared = {linked, *(marks.read_release(host.state, m) for m in ("previous", "meant"))}
        entries = ((name, releases.entry(name)) for name in names if is_digest(name))
        aged = [(name, int(entry.inode.modified)) for name, entry in entries if entry is not None]
        for name in to_prune(aged, keep, spared):
            # Away in one step: half a release is never found under its name.
            away = f"{TEMPORARY[0]}{name}"
            releases.rename(name, away)
            gone.append(name)
            releases.remove_tree(away)
    except (OSError, Malformed):
        pass  # what can't go, or may have to stay, is left, and the lock is released all the same
    return tuple(gone)
