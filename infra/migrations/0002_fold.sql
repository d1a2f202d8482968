-- What the fold has made of the log: one served row an impression, and its state with the log's position.

CREATE TABLE served (
    surface text NOT NULL,
    impression_id text NOT NULL,
    shown_at timestamptz NOT NULL,
    schema_version text NOT NULL, -- names the columns packed into row
    row bytea NOT NULL
) PARTITION BY RANGE (shown_at);
CREATE INDEX served_shown_at ON served USING brin (shown_at) WITH (pages_per_range = 32, autosummarize = on);

CREATE TABLE fold_positions (
    surface text PRIMARY KEY,
    schema_version text NOT NULL,
    seq bigint NOT NULL,               -- events up to here are folded
    tick bigint NOT NULL,              -- the last tick folded
    folded_to timestamptz NOT NULL     -- known_at of the last event folded
);

-- The state is a log of its own: a checkpoint appends what changed since the last one, and now and then everything,
-- whereupon the older segments go. Reading them in order of seq, later over earlier, gives the state back.
CREATE TABLE fold_segments (
    surface text NOT NULL,
    family text NOT NULL,     -- 'users' for what is known of each user
    seq bigint NOT NULL,      -- the log's position the segment brings the family to
    part integer NOT NULL,
    whole boolean NOT NULL,   -- true: everything, nothing older is needed
    body bytea NOT NULL,      -- packed rows: key, then float64 and int64 fields
    PRIMARY KEY (surface, family, seq, part)
);
ALTER TABLE fold_segments ALTER COLUMN body SET STORAGE EXTERNAL;

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
