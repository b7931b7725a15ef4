"""A market and a client gateway: a rehearsal trades for real and is counted to the share.

Programs of their own (``python -m deploytool.market.venue``): the router is known to them by its
protocols only, and of deploytool they use its errors.
"""
