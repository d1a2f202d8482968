-- Probes of skew: now and then the fold works out again, from the log alone, what serving should have read for a sample
-- of requests, and writes down where the served rows differ.

CREATE TABLE skew (
    skew_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    surface text NOT NULL,
    schema_version text NOT NULL,
    first_shown timestamptz NOT NULL, -- of the impressions compared
    last_shown timestamptz NOT NULL,
    impressions integer NOT NULL,     -- compared
    without_row integer NOT NULL,     -- sampled, but their served row is missing or of another schema version
    left_out integer NOT NULL,        -- live, but read as of a state older than the probe's
    columns integer NOT NULL,         -- values of a row
    differing jsonb NOT NULL,         -- by feature: impressions, and the one that differs most with both its values
    measured_at timestamptz NOT NULL DEFAULT clock_timestamp()
);
CREATE INDEX skew_surface ON skew (surface, last_shown);
