"""Software licenses: what users own of them, what the operator keeps of their servers, and the seats that jobs take.

No key of a vendor leaves this package but as a secret of a job that has its seats.
"""
