-- People at their running jobs, and operators at Serai's own page. Hashes of secrets, no secrets. Columns: store/session_model.py.
CREATE TABLE sessions (
  id TEXT NOT NULL PRIMARY KEY,
  secret BLOB NOT NULL,
  cookie BLOB NOT NULL,
  kind INTEGER NOT NULL,
  job_id TEXT NOT NULL,
  rank INTEGER NOT NULL,
  username TEXT NOT NULL,
  port INTEGER NOT NULL,
  opened_at_ms INTEGER NOT NULL,
  redeemed_at_ms INTEGER NOT NULL,
  expires_at_ms INTEGER NOT NULL
) STRICT;

CREATE INDEX sessions_by_job ON sessions (job_id);
