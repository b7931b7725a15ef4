"""What a person types: one module a command group; exit codes; wiring. Heavy imports come late."""
