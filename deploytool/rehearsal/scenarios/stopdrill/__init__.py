"""What a stop drill is made of: a fleet under load, hosts that don't obey, and who keeps watch."""
