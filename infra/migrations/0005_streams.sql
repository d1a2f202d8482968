-- How far each topic has been read into the log of a surface. A place moves in the transaction that brings the events
-- before it into the log, so that each is there once, whatever is killed; what the broker remembers decides nothing.

CREATE TABLE stream_offsets (
    surface text NOT NULL,
    topic text NOT NULL,
    partition integer NOT NULL,
    next_offset bigint NOT NULL, -- of the first message that is not in the log
    updated_at timestamptz NOT NULL,
    PRIMARY KEY (surface, topic, partition)
) WITH (fillfactor = 50); -- its rows move with every commit, and stay on their page
