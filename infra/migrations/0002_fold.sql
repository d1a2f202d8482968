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

CREATE TABLE fold_counters (
    surface text NOT NULL,
    family text NOT NULL,
    key bigint NOT NULL,
    state bytea NOT NULL, -- float64: first, last, last_click, then clicks and impressions by half-life
    PRIMARY KEY (surface, family, key)
);

CREATE TABLE fold_users (
    surface text NOT NULL,
    key bigint NOT NULL,
    state bytea NOT NULL, -- float64 / int64 fields of the user's own state
    PRIMARY KEY (surface, key)
);
