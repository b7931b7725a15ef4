"""What is true: evidence of one round, verdicts on it, and the proof that a fleet is one."""
