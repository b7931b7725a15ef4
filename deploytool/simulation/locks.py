"""Lock, token, marks: who may change a simulated host, and how far a rollout has come on it."""

from __future__ import annotations

import re

from deploytool.simulation.helper_state import HelperState, Say
from deploytool.simulation.request import HelperRefusal, HelperRequest

_DIGEST = re.compile(r"[0-9a-f]{64}")


class LockVerbs(HelperState):
    """The verbs that take, keep and give back a host."""

    def write_mark(self, phase: str) -> None:
        """Writes down how far the rollout has come, where one has begun."""
        mark = self.pairs("rollout")
        if mark:
            said = {key: mark[key] for key in ("plan", "target", "before")}
            self.put_pairs("rollout", {**said, "phase": phase})

    def _take_lock(self, request: HelperRequest) -> None:
        token = int(self.text("token") or 0) + 1
        self.put("token", f"{token}\n")
        asked = {key: request[key] for key in ("holder", "purpose", "plan")}
        self.put_pairs("lock", {"token": token, **asked})

    def _begin_mark(self, request: HelperRequest) -> None:
        found = self.pairs("rollout")
        stays = found and (found["phase"] != "locked" or not request["before"])
        if stays or request["purpose"] in {"retire", "start"}:
            return
        had = found["before"] if found else self.linked()
        before, plan = request["before"] or had, request["rollout"] or request["plan"]
        mark = {"plan": plan, "target": request["release"], "before": before}
        phase = "locked" if before == had else "confirmed"
        try:
            self.put_pairs("rollout", {**mark, "phase": phase})
        except HelperRefusal:
            if self.machine.disk.read_only:
                raise HelperRefusal("lock-left", "the lock can't be removed") from None
            self.remove("lock")
            raise

    def _say_locked(self, say: Say) -> None:
        say(f"token {self.pairs('lock')['token']}")
        say(f"current {self.machine.disk.links.get(f'{self.root}/current', 'none')}")
        if (mark := self.text("verified")) is not None:
            say(f"verified {mark.replace(chr(10), ' ')}")

    def verb_lock(self, request: HelperRequest, say: Say) -> None:
        """Takes the lock, or says who has it. The same plan asks twice and has it once."""
        request.needs("holder", "purpose", "plan", "release")
        lock = self.pairs("lock")
        if lock and lock["plan"] != request["plan"]:
            text = "{holder} holds the lock for {purpose}, plan {plan}, since {since}"
            raise HelperRefusal("locked", text.format_map(lock))
        if not lock:
            self._take_lock(request)
        self._begin_mark(request)
        self._say_locked(say)

    def verb_takeover(self, request: HelperRequest, say: Say) -> None:
        """Takes a lock away from whoever has it, by the token that names it."""
        request.needs("holder", "purpose", "plan", "token", "release")
        lock = self.pairs("lock")
        if lock and lock["plan"] != request["plan"]:
            self.check_token(request)
        if not lock or lock["plan"] != request["plan"]:
            self._take_lock(request)
        self._begin_mark(request)
        self._say_locked(say)

    def verb_renew(self, request: HelperRequest, say: Say) -> None:
        """Gives whoever holds the lock a later token."""
        request.needs("holder", "purpose", "plan", "token")
        self.check_token(request)
        self._take_lock(request)
        self._say_locked(say)

    def verb_unlock(self, request: HelperRequest, say: Say) -> None:
        """Gives the lock back, and removes what nobody needs any more."""
        request.needs("keep")
        self.check_token(request)
        mark = self.pairs("rollout")
        if mark and (mark["phase"] != "locked" or mark["target"] == request["release"]):
            finished = "".join(f"{key} {mark[key]}\n" for key in ("plan", "target", "before"))
            self.put("finished", finished)
            if mark["before"] != self.linked():
                self.put("previous", f"{mark['before']}\n")
        self._prune(request.number("keep"), say)
        self.remove("held", "rollout", "lock")
        self.step("lock removed")

    def _prune(self, keep: int, say: Say) -> None:
        """The newest stay, and always the active one, the one before, the one that was stopped."""
        disk, releases = self.machine.disk, f"{self.root}/releases"
        newest: dict[str, int] = {}
        for path in disk.below(releases):
            folder = path.removeprefix(f"{releases}/").split("/")[0]
            newest[folder] = max(newest.get(folder, 0), disk.files[path].inode)
        kept = (self.text("previous"), self.text("meant"))
        stay = {self.linked(), *((text or "").strip() for text in kept)}
        names = sorted(newest, key=lambda name: newest[name], reverse=True)
        known = [name for name in names if _DIGEST.fullmatch(name)]
        for name in names:
            if name not in known and not disk.read_only:
                disk.remove_folder(f"{releases}/{name}")
        for name in known[keep:]:
            if name not in stay and not disk.read_only:
                disk.remove_folder(f"{releases}/{name}")
                say(f"pruned {name}")

    def verb_hold(self, request: HelperRequest, _say: Say) -> None:
        """Writes down that the fleet is not what it should be."""
        request.needs("verdict", "next", "holder", "plan")
        self.check_token(request)
        self.put_pairs("held", {k: request[k] for k in ("verdict", "holder", "plan", "next")})
