"""The process that owns one job: only the standard library, no threads, no asyncio (8 MiB and 20 ms for each job)."""
