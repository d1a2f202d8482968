-- The event log: items, users, impressions, feedback, dead letters. One sequence gives every accepted event its
-- place; a writer holds the surface's advisory lock from taking numbers to commit, so numbers become
-- visible in order and a reader that remembers the last one it saw misses nothing.

CREATE SEQUENCE event_seq;

CREATE TABLE items (
    surface text NOT NULL,
    item_id text NOT NULL,
    attributes jsonb NOT NULL DEFAULT '{}',
    PRIMARY KEY (surface, item_id)
);

CREATE TABLE users (
    surface text NOT NULL,
    user_id text NOT NULL,
    attributes jsonb NOT NULL DEFAULT '{}',
    PRIMARY KEY (surface, user_id)
);

CREATE TABLE impressions (
    surface text NOT NULL,
    impression_id text NOT NULL,
    request_id text NOT NULL,
    user_id text NOT NULL,
    item_id text NOT NULL,
    position integer,
    shown_at timestamptz NOT NULL,
    known_at timestamptz NOT NULL, -- when the log learned of it: never before shown_at; order of seq
    model_version text,            -- null: imported
    propensity double precision,
    read_tick bigint,              -- counters were read as of ticks before this one; null: imported, its own tick
    context jsonb NOT NULL DEFAULT '{}',
    seq bigint NOT NULL,
    PRIMARY KEY (surface, impression_id, shown_at)
) PARTITION BY RANGE (shown_at);
CREATE INDEX impressions_seq ON impressions USING brin (seq) WITH (pages_per_range = 32, autosummarize = on);
CREATE INDEX impressions_shown_at ON impressions USING brin (shown_at) WITH (pages_per_range = 32, autosummarize = on);

CREATE TABLE feedback (
    surface text NOT NULL,
    impression_id text NOT NULL,
    kind text NOT NULL,
    value double precision NOT NULL,
    at timestamptz NOT NULL,
    known_at timestamptz NOT NULL,
    seq bigint NOT NULL,
    PRIMARY KEY (surface, impression_id, kind, at)
) PARTITION BY RANGE (at);
CREATE INDEX feedback_waiting ON feedback (surface, impression_id) WHERE seq = 0; -- came before its impression
CREATE INDEX feedback_seq ON feedback USING brin (seq) WITH (pages_per_range = 32, autosummarize = on);

CREATE TABLE dead_letters (
    dead_letter_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    surface text NOT NULL,
    source text NOT NULL, -- the file, the endpoint, or topic/partition@offset
    line bigint,          -- row of the file, or place in the message, from 1
    reason text NOT NULL,
    event jsonb NOT NULL,
    received_at timestamptz NOT NULL
);
CREATE INDEX dead_letters_surface ON dead_letters (surface, dead_letter_id);

-- The UTC days that have events of a surface, with the places of those events: who reads the log by place, or asks for
-- its first day, finds the partitions by it instead of looking into every one. Feedback that waits has no place yet.

CREATE TABLE event_days (
    surface text NOT NULL,
    events text NOT NULL CHECK (events IN ('impressions', 'feedback')),
    day date NOT NULL,
    first_seq bigint NOT NULL,
    last_seq bigint NOT NULL,
    PRIMARY KEY (surface, events, day)
) WITH (fillfactor = 50); -- the day's row moves with every commit, and stays on its page
