-- What tools show to be let in. Hashes of secrets, no secrets. Columns: store/token_model.py.
CREATE TABLE tokens (
  id TEXT NOT NULL PRIMARY KEY,
  secret BLOB NOT NULL,
  name TEXT NOT NULL,
  role INTEGER NOT NULL,
  project TEXT NOT NULL,
  created_at_ms INTEGER NOT NULL,
  created_by TEXT NOT NULL,
  expires_at_ms INTEGER NOT NULL,
  used_day_ms INTEGER NOT NULL,
  revoked_at_ms INTEGER NOT NULL
) STRICT;
