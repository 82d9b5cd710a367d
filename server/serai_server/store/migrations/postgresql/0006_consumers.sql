-- Whose a consumer of events is, and when it was seen last. Those that are there already are the operator's. Columns: store/tables.py.
ALTER TABLE consumers ADD COLUMN owner text NOT NULL DEFAULT '';
ALTER TABLE consumers ADD COLUMN seen_at_ms bigint NOT NULL DEFAULT 0;
