"""Sessions: people at their running jobs, by shell, web page or desktop, and operators at Serai's own page.

- `session.Session` is one in memory: whose it is, what it opens, `over` (an asyncio.Event) and `why_over`.
- `registry.Registry` has all that are not over, found by the hash of their secret or cookie. The store's listener feeds it, so that it says
  what is on disk; only how long a session lasts may be up to a minute ahead.
- `service.SessionsService` has the use cases: open, redeem, authorize, hold, list, close.
- `keeper.Keeper` ends what has expired or has no running replica any more, and writes down how long the others last.
- `shells.ShellHub` has the open shells: who opens one, who comes back to it, and its end. `open_shell.OpenShell` is one of them,
  `connection` is somebody in it, `tail.Tail` the last of its output, `shell_requests` what may be said.
- `running.running_sessions` puts these together.

For the hub there is `service.ShellSessions`, which SessionsService implements:

- `shell_of(secret)` → the Session of kind SHELL, or SessionUnknown (logged);
- `await for_program(job_id, rank)` → a Session of an operator's program, checked and counted like every other, without a secret;
- `await begin(session)` before its program is started: from then on it lasts until `end`. Raises SessionUnknown if it is over by now;
- `not_started(session)` after `begin`, when its program could not be started for a passing reason: it may be begun again, within the time
  that a new one has;
- `session.attached = True` or False: whether somebody is connected, for lists;
- `end(session, why)`: its program is over; at once, and never raises;
- `session.over` is set when it was closed or its job ended: end the program, tell `session.why_over`.
"""
