"""The life of a job: what a request must be, how a job moves from state to state, and who moves it.

requests → service → store → reconciler → machine (pure) → backend. `invocation` makes command lines, `products` machine types,
`reports` what tools see.
"""
