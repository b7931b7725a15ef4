"""What is shipped: an immutable artifact and its manifest, addressed by the artifact's SHA-256."""
