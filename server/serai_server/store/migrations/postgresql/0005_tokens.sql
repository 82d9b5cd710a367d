-- What tools show to be let in. Hashes of secrets, no secrets. Columns: store/token_model.py.
CREATE TABLE tokens (
  id text NOT NULL PRIMARY KEY,
  secret bytea NOT NULL,
  name text NOT NULL,
  role bigint NOT NULL,
  project text NOT NULL,
  created_at_ms bigint NOT NULL,
  created_by text NOT NULL,
  expires_at_ms bigint NOT NULL,
  used_day_ms bigint NOT NULL,
  revoked_at_ms bigint NOT NULL
);
