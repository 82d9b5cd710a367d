-- Licenses, the seats that jobs hold, license servers. What each table is for: store/tables.py. Times are ms since epoch; 0 = never.
CREATE TABLE licenses (
  id TEXT NOT NULL PRIMARY KEY,
  state INTEGER NOT NULL,
  version INTEGER NOT NULL,
  digest BLOB NOT NULL,
  owner TEXT NOT NULL,
  project TEXT NOT NULL,
  product TEXT NOT NULL,
  created_at_ms INTEGER NOT NULL,
  deleted_at_ms INTEGER NOT NULL,
  at_core INTEGER NOT NULL,
  core_id TEXT NOT NULL,
  payment INTEGER NOT NULL,
  charges INTEGER NOT NULL,
  payment_at_ms INTEGER NOT NULL,
  status TEXT NOT NULL,
  body BLOB NOT NULL,
  acl BLOB NOT NULL,
  provider TEXT NOT NULL,
  category TEXT NOT NULL,
  product_id TEXT NOT NULL,
  status_mark INTEGER NOT NULL,
  folded TEXT NOT NULL
) STRICT;

CREATE INDEX licenses_by_age ON licenses (created_at_ms, id) WHERE deleted_at_ms = 0;
CREATE INDEX licenses_by_core_id ON licenses (core_id) WHERE core_id != '';
-- at_core 4 = LOST; payment 4 = UNSURE, 5 = UNPAID
CREATE INDEX licenses_by_product ON licenses (product, state, status_mark, id)
  WHERE deleted_at_ms = 0 AND at_core != 4 AND payment < 5;
CREATE INDEX licenses_to_settle ON licenses (product, payment_at_ms, id)
  WHERE deleted_at_ms = 0 AND at_core != 4 AND payment >= 4 AND payment <= 5;

CREATE TABLE license_readers (
  reader TEXT NOT NULL,
  created_at_ms INTEGER NOT NULL,
  license_id TEXT NOT NULL REFERENCES licenses (id),
  PRIMARY KEY (reader, created_at_ms, license_id)
) STRICT, WITHOUT ROWID;

CREATE INDEX license_readers_by_license ON license_readers (license_id);

CREATE TABLE license_history (
  license_id TEXT NOT NULL REFERENCES licenses (id),
  number INTEGER NOT NULL,
  at_ms INTEGER NOT NULL,
  body BLOB NOT NULL,
  PRIMARY KEY (license_id, number)
) STRICT, WITHOUT ROWID;

CREATE TABLE claims (
  job_id TEXT NOT NULL,
  license_id TEXT NOT NULL,
  product TEXT NOT NULL,
  seats INTEGER NOT NULL,
  needed INTEGER NOT NULL,
  arrival INTEGER NOT NULL,
  held_at_ms INTEGER NOT NULL,
  PRIMARY KEY (job_id, license_id)
) STRICT, WITHOUT ROWID;

CREATE INDEX claims_by_product ON claims (product, held_at_ms, arrival, job_id, seats, needed);
CREATE INDEX claims_by_license ON claims (license_id, arrival);

CREATE TABLE license_servers (
  name TEXT NOT NULL PRIMARY KEY,
  product TEXT NOT NULL,
  body BLOB NOT NULL,
  sealed BLOB NOT NULL,
  observed_at_ms INTEGER NOT NULL,
  observed BLOB NOT NULL
) STRICT;

CREATE UNIQUE INDEX license_servers_by_product ON license_servers (product);

CREATE TABLE license_windows (
  id TEXT NOT NULL PRIMARY KEY,
  product TEXT NOT NULL,
  starts_at_ms INTEGER NOT NULL,
  ends_at_ms INTEGER NOT NULL,
  body BLOB NOT NULL
) STRICT;

ALTER TABLE jobs ADD COLUMN claims INTEGER NOT NULL DEFAULT 0;

-- An event may be of a license now, so it no longer refers to a job that must be there. SQLite cannot drop a reference in place.
CREATE TABLE events_now (
  sequence INTEGER NOT NULL PRIMARY KEY,
  job_id TEXT NOT NULL,
  kind INTEGER NOT NULL,
  body BLOB NOT NULL,
  at_ms INTEGER NOT NULL,
  license_id TEXT NOT NULL DEFAULT ''
) STRICT;

INSERT INTO events_now (sequence, job_id, kind, body, at_ms) SELECT sequence, job_id, kind, body, at_ms FROM events ORDER BY sequence;
DROP TABLE events;
ALTER TABLE events_now RENAME TO events;
CREATE INDEX events_by_job ON events (job_id, sequence);
CREATE INDEX events_of_licenses ON events (sequence, license_id) WHERE license_id != '';
