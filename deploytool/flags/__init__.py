"""What a bit means: registries, compatibility between builds, arming."""
