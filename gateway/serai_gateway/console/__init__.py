"""Serai's own pages in a browser: jobs, their output live, terminals and desktops; for an operator, and for the holder of one session.

The pages are static files that anybody may load; what they show comes from a small JSON API and a few WebSockets, for whoever holds the
cookie of a session of kind CONSOLE. A terminal or a desktop is reached as UCloud's own pages reach it, with that session's secret.
"""
