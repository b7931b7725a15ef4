"""What a bit means: registries, their history, and compatibility between builds."""
