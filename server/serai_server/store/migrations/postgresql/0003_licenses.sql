-- Licenses, the seats that jobs hold, license servers. What each table is for: store/tables.py. Times are ms since epoch; 0 = never.
CREATE TABLE licenses (
  id text NOT NULL PRIMARY KEY,
  state bigint NOT NULL,
  version bigint NOT NULL,
  digest bytea NOT NULL,
  owner text NOT NULL,
  project text NOT NULL,
  product text NOT NULL,
  created_at_ms bigint NOT NULL,
  deleted_at_ms bigint NOT NULL,
  at_core bigint NOT NULL,
  core_id text NOT NULL,
  payment bigint NOT NULL,
  charges bigint NOT NULL,
  payment_at_ms bigint NOT NULL,
  status text NOT NULL,
  body bytea NOT NULL,
  acl bytea NOT NULL,
  provider text NOT NULL,
  category text NOT NULL,
  product_id text NOT NULL,
  status_mark bigint NOT NULL,
  folded text NOT NULL
);

CREATE INDEX licenses_by_age ON licenses (created_at_ms, id) WHERE deleted_at_ms = 0;
CREATE INDEX licenses_by_core_id ON licenses (core_id) WHERE core_id != '';
-- at_core 4 = LOST; payment 4 = UNSURE, 5 = UNPAID
CREATE INDEX licenses_by_product ON licenses (product, state, status_mark, id)
  WHERE deleted_at_ms = 0 AND at_core != 4 AND payment < 5;
CREATE INDEX licenses_to_settle ON licenses (product, payment_at_ms, id)
  WHERE deleted_at_ms = 0 AND at_core != 4 AND payment >= 4 AND payment <= 5;

CREATE TABLE license_readers (
  reader text NOT NULL,
  created_at_ms bigint NOT NULL,
  license_id text NOT NULL REFERENCES licenses (id),
  PRIMARY KEY (reader, created_at_ms, license_id)
);

CREATE INDEX license_readers_by_license ON license_readers (license_id);

CREATE TABLE license_history (
  license_id text NOT NULL REFERENCES licenses (id),
  number bigint NOT NULL,
  at_ms bigint NOT NULL,
  body bytea NOT NULL,
  PRIMARY KEY (license_id, number)
);

CREATE TABLE claims (
  job_id text NOT NULL,
  license_id text NOT NULL,
  product text NOT NULL,
  seats bigint NOT NULL,
  needed bigint NOT NULL,
  arrival bigint NOT NULL,
  held_at_ms bigint NOT NULL,
  PRIMARY KEY (job_id, license_id)
);

CREATE INDEX claims_by_product ON claims (product, held_at_ms, arrival, job_id, seats, needed);
CREATE INDEX claims_by_license ON claims (license_id, arrival);

CREATE TABLE license_servers (
  name text NOT NULL PRIMARY KEY,
  product text NOT NULL,
  body bytea NOT NULL,
  sealed bytea NOT NULL,
  observed_at_ms bigint NOT NULL,
  observed bytea NOT NULL
);

CREATE UNIQUE INDEX license_servers_by_product ON license_servers (product);

CREATE TABLE license_windows (
  id text NOT NULL PRIMARY KEY,
  product text NOT NULL,
  starts_at_ms bigint NOT NULL,
  ends_at_ms bigint NOT NULL,
  body bytea NOT NULL
);

ALTER TABLE jobs ADD COLUMN claims bigint NOT NULL DEFAULT 0;

-- An event may be of a license now, so it no longer refers to a job that must be there.
ALTER TABLE events ADD COLUMN license_id text NOT NULL DEFAULT '';
ALTER TABLE events DROP CONSTRAINT events_job_id_fkey;
CREATE INDEX events_of_licenses ON events (sequence, license_id) WHERE license_id != '';
