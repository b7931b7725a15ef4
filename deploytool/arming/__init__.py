"""Arming: turns runtime flags on and off on a proven fleet, with the senders that use them."""
