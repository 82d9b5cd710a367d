-- People at their running jobs, and operators at Serai's own page. Hashes of secrets, no secrets. Columns: store/session_model.py.
CREATE TABLE sessions (
  id text NOT NULL PRIMARY KEY,
  secret bytea NOT NULL,
  cookie bytea NOT NULL,
  kind bigint NOT NULL,
  job_id text NOT NULL,
  rank bigint NOT NULL,
  username text NOT NULL,
  port bigint NOT NULL,
  opened_at_ms bigint NOT NULL,
  redeemed_at_ms bigint NOT NULL,
  expires_at_ms bigint NOT NULL
);

CREATE INDEX sessions_by_job ON sessions (job_id);
