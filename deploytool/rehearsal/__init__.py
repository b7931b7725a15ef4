"""Throwaway fleets, the faults done to them, and the market they trade on."""
