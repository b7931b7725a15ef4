"""The deployer is killed, paused, doubled and starved of disk, on real hosts (P1, P7)."""
