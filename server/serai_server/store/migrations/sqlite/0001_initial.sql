-- The first schema. What each table is for: store/tables.py. Times are ms since epoch; 0 = never.
CREATE TABLE jobs (
  id TEXT NOT NULL PRIMARY KEY,
  state INTEGER NOT NULL,
  target INTEGER NOT NULL,
  version INTEGER NOT NULL,
  digest BLOB NOT NULL,
  owner TEXT NOT NULL,
  project TEXT NOT NULL,
  application TEXT NOT NULL,
  product TEXT NOT NULL,
  name TEXT NOT NULL,
  replicas INTEGER NOT NULL,
  time_limit_ms INTEGER NOT NULL,
  period_ms INTEGER NOT NULL,
  output_folder TEXT NOT NULL,
  created_at_ms INTEGER NOT NULL,
  submitted_at_ms INTEGER NOT NULL,
  started_at_ms INTEGER NOT NULL,
  ended_at_ms INTEGER NOT NULL,
  forgotten_at_ms INTEGER NOT NULL,
  stop_requested_at_ms INTEGER NOT NULL,
  status TEXT NOT NULL,
  replica_facts BLOB NOT NULL,
  charged_periods INTEGER NOT NULL,
  wake_at_ms INTEGER NOT NULL,
  body BLOB NOT NULL
) STRICT;

CREATE INDEX jobs_by_age ON jobs (created_at_ms, id);
CREATE INDEX jobs_by_owner ON jobs (owner, created_at_ms, id);
CREATE INDEX jobs_active ON jobs (created_at_ms, id) WHERE forgotten_at_ms = 0;

CREATE TABLE events (
  sequence INTEGER NOT NULL PRIMARY KEY,
  job_id TEXT NOT NULL REFERENCES jobs (id),
  kind INTEGER NOT NULL,
  body BLOB NOT NULL,
  at_ms INTEGER NOT NULL
) STRICT;

CREATE INDEX events_by_job ON events (job_id, sequence);

CREATE TABLE consumers (
  name TEXT NOT NULL PRIMARY KEY,
  settled_to INTEGER NOT NULL
) STRICT;

CREATE TABLE unsettled (
  consumer TEXT NOT NULL REFERENCES consumers (name),
  sequence INTEGER NOT NULL,
  PRIMARY KEY (consumer, sequence)
) STRICT, WITHOUT ROWID;

CREATE TABLE settlements (
  consumer TEXT NOT NULL REFERENCES consumers (name),
  sequence INTEGER NOT NULL,
  outcome INTEGER NOT NULL,
  detail TEXT NOT NULL,
  at_ms INTEGER NOT NULL,
  PRIMARY KEY (consumer, sequence)
) STRICT, WITHOUT ROWID;

CREATE TABLE intervals (
  job_id TEXT NOT NULL REFERENCES jobs (id),
  version INTEGER NOT NULL,
  started_at_ms INTEGER NOT NULL,
  ended_at_ms INTEGER NOT NULL,
  PRIMARY KEY (job_id, version)
) STRICT, WITHOUT ROWID;

CREATE UNIQUE INDEX intervals_open ON intervals (job_id) WHERE ended_at_ms = 0;

CREATE TABLE ledger (
  job_id TEXT NOT NULL REFERENCES jobs (id),
  first_period INTEGER NOT NULL,
  units INTEGER NOT NULL,
  number_of_products INTEGER NOT NULL,
  charge_id TEXT NOT NULL,
  at_ms INTEGER NOT NULL,
  PRIMARY KEY (job_id, first_period)
) STRICT, WITHOUT ROWID;
