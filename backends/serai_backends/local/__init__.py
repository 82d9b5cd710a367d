"""The backend for one machine: each replica is a sandboxed process, each job has one supervisor that outlives the server.

Nothing is imported here: the supervisor's interpreter imports this package too and must stay small. The way in is
`serai_backends.local.backend.open_local`.
"""
