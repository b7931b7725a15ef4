"""How a release ships: plan, the table of states, the runner that performs it."""
