"""What a job owes: pure arithmetic over the stretches of time in which it ran. No timers, no state, no store."""
