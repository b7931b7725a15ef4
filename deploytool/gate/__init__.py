"""What CI refuses, and ``deploy`` too: what must never reach the fleet stops here."""
