"""What tests/chaos is made of: fault points, a server that dies at them, users, and the look at what became of it all."""
