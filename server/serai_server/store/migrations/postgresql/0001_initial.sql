-- The first schema. What each table is for: store/tables.py. Times are ms since epoch; 0 = never.
CREATE TABLE jobs (
  id text NOT NULL PRIMARY KEY,
  state bigint NOT NULL,
  target bigint NOT NULL,
  version bigint NOT NULL,
  digest bytea NOT NULL,
  owner text NOT NULL,
  project text NOT NULL,
  application text NOT NULL,
  product text NOT NULL,
  name text NOT NULL,
  replicas bigint NOT NULL,
  time_limit_ms bigint NOT NULL,
  period_ms bigint NOT NULL,
  output_folder text NOT NULL,
  created_at_ms bigint NOT NULL,
  submitted_at_ms bigint NOT NULL,
  started_at_ms bigint NOT NULL,
  ended_at_ms bigint NOT NULL,
  forgotten_at_ms bigint NOT NULL,
  stop_requested_at_ms bigint NOT NULL,
  status text NOT NULL,
  replica_facts bytea NOT NULL,
  charged_periods bigint NOT NULL,
  wake_at_ms bigint NOT NULL,
  body bytea NOT NULL
);

CREATE INDEX jobs_by_age ON jobs (created_at_ms, id);
CREATE INDEX jobs_by_owner ON jobs (owner, created_at_ms, id);
CREATE INDEX jobs_active ON jobs (created_at_ms, id) WHERE forgotten_at_ms = 0;

CREATE TABLE events (
  sequence bigint NOT NULL PRIMARY KEY,
  job_id text NOT NULL REFERENCES jobs (id),
  kind bigint NOT NULL,
  body bytea NOT NULL,
  at_ms bigint NOT NULL
);

CREATE INDEX events_by_job ON events (job_id, sequence);

CREATE TABLE consumers (
  name text NOT NULL PRIMARY KEY,
  settled_to bigint NOT NULL
);

CREATE TABLE unsettled (
  consumer text NOT NULL REFERENCES consumers (name),
  sequence bigint NOT NULL,
  PRIMARY KEY (consumer, sequence)
);

CREATE TABLE settlements (
  consumer text NOT NULL REFERENCES consumers (name),
  sequence bigint NOT NULL,
  outcome bigint NOT NULL,
  detail text NOT NULL,
  at_ms bigint NOT NULL,
  PRIMARY KEY (consumer, sequence)
);

CREATE TABLE intervals (
  job_id text NOT NULL REFERENCES jobs (id),
  version bigint NOT NULL,
  started_at_ms bigint NOT NULL,
  ended_at_ms bigint NOT NULL,
  PRIMARY KEY (job_id, version)
);

CREATE UNIQUE INDEX intervals_open ON intervals (job_id) WHERE ended_at_ms = 0;

CREATE TABLE ledger (
  job_id text NOT NULL REFERENCES jobs (id),
  first_period bigint NOT NULL,
  units bigint NOT NULL,
  number_of_products bigint NOT NULL,
  charge_id text NOT NULL,
  at_ms bigint NOT NULL,
  PRIMARY KEY (job_id, first_period)
);
