"""A host's agent that can be bad in every way: a real process on real pipes."""

from __future__ import annotations

import json

AGENT = """
import json, os, subprocess, sys, time
SAYS = json.loads(sys.argv[1])
became = False


def survey(lines):  # what an agent says of what a shell says in these lines
    found = {}
    for key, _, value in (line.partition(" ") for line in lines):
        if key == "alive":
            one = {"pid": int(value), "parent": 1, "start": 1, "state": "S", "account": 0}
            found.setdefault("alive", []).append({**one, "command": "x"})
        elif key == "open":
            found.setdefault("open_ports", []).append(int(value))
        elif key == "may":
            other = {"pid": int(value), "role": "account"}
            found.setdefault("others", []).append(other)
        elif key == "halted":
            words = value.split()
            named = dict(zip(words[::2], words[1::2]))
            found["latch"] = {"by": "me", "reason": "r", "since": 1} | {"latch": named["latch"]}
            found["latched"] = True
        elif key == "fenced":
            found["fenced"] = True
        else:
            found[key] = value
    return found


while True:
    first = sys.stdin.readline()
    if not first:
        break
    format, nonce, verb = first.split()
    if SAYS.get("old") and format == "deploytool/2":
        sys.exit(0)  # as the helper of deploytool 0.1.0
    if format == "deploytool/2":
        became, asked = True, json.loads(sys.stdin.readline())
    else:
        asked = {}
        while (line := sys.stdin.readline().rstrip()) != ".":
            key, _, value = line.partition(" ")
            asked[key] = value
    told = {"survey": "look", "kill_strays": "kill"}.get(verb, verb)
    with open(SAYS["log"], "a") as log:
        log.write(told + "\\n")
    if became and format == "deploytool/1":
        end = "refused other-version no"
        print(f"\\ndeploytool {nonce} begin\\ndeploytool {nonce} end {end}", flush=True)
        sys.exit(0)
    answer = SAYS.get(verb, SAYS.get(told))
    if verb == "kill_strays":
        answer = {"killed": 1}
    if verb == "survey" and isinstance(answer, list):
        answer = {"survey": survey(answer)}
    if answer == "hang":
        print(f"\\ndeploytool {nonce} begin", flush=True)
        time.sleep(60)
    if answer == "begun, late":
        print(f"\\ndeploytool {nonce} begin", flush=True)
        time.sleep(SAYS["late_s"])
        print(json.dumps(SAYS["then"]) + f"\\ndeploytool {nonce} end ok", flush=True)
        continue
    if isinstance(answer, str) and answer.startswith("arrived"):  # before Python begins
        time.sleep(SAYS.get("before_s", 0))
        print(f"\\ndeploytool {nonce} arrived", flush=True)
        if answer == "arrived, dies":
            sys.exit(SAYS.get("code", 137))
        time.sleep(60 if answer == "arrived" else SAYS["late_s"])
        answer = SAYS.get("then")
    if answer == "mute":
        time.sleep(60)
    if answer == "slow":
        time.sleep(1)
        answer = ["fenced yes"]
    if answer == "die":
        print(f"\\ndeploytool {nonce} begin", flush=True)
        sys.exit(1)
    if answer == "flood":
        os.execlp("cat", "cat", "/dev/zero")
    if answer == "flood beside":
        subprocess.run(["cat", "/dev/zero"], stdout=2)
    if answer == "refuse":
        said = '{"code":"x","text":"no"}\\n' if format == "deploytool/2" else ""
        why = "refused" if format == "deploytool/2" else "refused x no"
        print(f"\\ndeploytool {nonce} begin\\n{said}deploytool {nonce} end {why}", flush=True)
        sys.exit(0)
    if format == "deploytool/2":
        body = (answer if isinstance(answer, str) else json.dumps(answer)) + "\\n"
    else:
        body = "".join(f"{line}\\n" for line in answer)
    print(f"\\ndeploytool {nonce} begin\\n{body}deploytool {nonce} end ok", flush=True)
"""


def says(answer: object, *, code: int | None = 0, **told: object) -> dict[str, object]:
    """What an agent answers to a halt: ``answer`` is what the artifact printed, or its object."""
    printed = answer if isinstance(answer, str) else json.dumps(answer)
    said = {"way": "command", "code": code, "answer": printed}
    return {"latched": True, "synced": True, "said": said} | told


def halted(**sent: object) -> dict[str, object]:
    """A router that halts, and what it says of the orders that it sent before."""
    said: dict[str, object] = {"latch": "ab", "trading_state": "HALTED"}
    return says(said | ({"sent": sent} if sent else {}))


HALTED = halted(children=0, counted_s=60.0, last_ago_s=None, gap_s=None)
UNCOUNTED = halted()
ACTIVE = says({"trading_state": "ACTIVE"})
TWICE = json.dumps(HALTED).replace('"latched": true', '"latched": true, "latched": true')
FENCED, KILLED, EMPTY = ["masked yes", "fenced yes"], ["killed 1"], ["halted latch ab"]
