"""Simulated fleets: what ships, over computers in memory."""
