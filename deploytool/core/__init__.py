"""What every procedure is made of, whatever it does to a fleet."""
