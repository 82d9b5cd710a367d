"""What the server knows, on disk: jobs, events, who settled them, intervals, ledger, licenses, seats. Start at api.py and open.py."""
