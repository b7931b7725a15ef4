"""Tests of the router: builds, engine, markets, fleets, garbage."""
