"""What the server knows, on disk: jobs, events and who settled them, running intervals, the ledger. Start at api.py and open.py."""
