"""A market and a client gateway: a rehearsal trades for real and is counted to the share."""
