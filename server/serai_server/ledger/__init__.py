"""What a job owes: pure arithmetic over the time that it ran, and whose wallet is known to be empty. No timers, no store."""
