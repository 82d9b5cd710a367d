"""Random lives of jobs for the property test of the ledger: plans, a machine that runs them, Core, crashes, and the oracle."""
