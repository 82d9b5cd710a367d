"""What we say to Core: deliveries of the server's events, with our own tokens."""
