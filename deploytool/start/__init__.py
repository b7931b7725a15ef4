"""Start: returns stopped hosts to service, once a second person has signed."""
