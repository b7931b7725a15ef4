"""A host's helper that can be bad in every way: a real process on real pipes."""

from __future__ import annotations

import base64
import json

HELPER = """
import base64, json, os, subprocess, sys, time
SAYS = json.loads(sys.argv[1])
while True:
    first = sys.stdin.readline()
    if not first:
        break
    _, nonce, verb = first.split()
    asked = {}
    while (line := sys.stdin.readline().rstrip()) != ".":
        key, _, value = line.partition(" ")
        asked[key] = value
    with open(SAYS["log"], "a") as log:
        log.write(verb + "\\n")
    answer = SAYS.get(verb)
    if answer == "hang":
        print(f"\\ndeploytool {nonce} begin", flush=True)
        time.sleep(60)
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
        print(f"\\ndeploytool {nonce} begin\\ndeploytool {nonce} end refused x no", flush=True)
        sys.exit(0)
    body = "".join(f"{line}\\n" for line in answer)
    print(f"\\ndeploytool {nonce} begin\\n{body}deploytool {nonce} end ok", flush=True)
"""


def halted(**sent: object) -> list[str]:
    """A router that halts, and what it says of the orders that it sent before."""
    said: dict[str, object] = {"latch": "ab", "trading_state": "HALTED"}
    said |= {"sent": sent} if sent else {}
    return [f"halt {base64.b64encode(json.dumps(said).encode()).decode()}", "latched yes"]


HALTED = halted(children=0, counted_s=60.0, last_ago_s=None, gap_s=None)
UNCOUNTED = halted()
ACTIVE = ["halt eyJ0cmFkaW5nX3N0YXRlIjogIkFDVElWRSJ9", "latched yes"]
FENCED, KILLED, EMPTY = ["masked yes", "fenced yes"], ["killed 1"], ["halted latch ab"]
