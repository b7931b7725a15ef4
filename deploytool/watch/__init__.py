"""Watch: rounds, renewals and stops over connections that are kept open."""
