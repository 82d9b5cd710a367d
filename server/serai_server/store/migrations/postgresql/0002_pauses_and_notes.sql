-- Jobs that pause, limits that change, and what Core says of a job after its creation. Columns: store/model.py.
ALTER TABLE jobs ADD COLUMN ran_ms BIGINT NOT NULL DEFAULT 0;
ALTER TABLE jobs ADD COLUMN running_since_ms BIGINT NOT NULL DEFAULT 0;
ALTER TABLE jobs ADD COLUMN warned_ms BIGINT NOT NULL DEFAULT 0;
ALTER TABLE jobs ADD COLUMN notes BYTEA NOT NULL DEFAULT '';

UPDATE jobs SET
  ran_ms = coalesce((SELECT sum(i.ended_at_ms - i.started_at_ms) FROM intervals i WHERE i.job_id = jobs.id AND i.ended_at_ms <> 0), 0),
  running_since_ms = coalesce((SELECT max(i.started_at_ms) FROM intervals i WHERE i.job_id = jobs.id AND i.ended_at_ms = 0), 0);

-- Whose wallet could not pay lately (3 = INSUFFICIENT_FUNDS), asked for at each start.
CREATE INDEX settlements_unpaid ON settlements (at_ms) WHERE outcome = 3;
