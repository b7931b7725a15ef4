"""Faults that a rehearsal brings upon real hosts, each taken back when its block ends."""
