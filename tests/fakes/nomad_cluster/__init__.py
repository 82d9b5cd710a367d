"""A model of a Nomad cluster, fast enough for a million events, and a world in which the Nomad backend lives on it.

tasks     what Nomad tells of a task on its way, in its own structs
history   the event log: one index for each change, a small buffer, readers
cluster   nodes, jobs, allocations and what may happen to them; no I/O, no waiting, one seeded source of randomness
remote    the cluster as the client that the backend holds: answers late, fails, streams break
judge     what may be told of a job, against what truly became of it
world     the backend, killed and started anew, and those who use and disturb it
"""
