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

INSERT INTO event_days (surface, events, day, first_seq, last_seq)
SELECT surface, 'impressions', (shown_at AT TIME ZONE 'UTC')::date, min(seq), max(seq) FROM impressions GROUP BY 1, 3
UNION ALL
SELECT surface, 'feedback', (at AT TIME ZONE 'UTC')::date, min(seq), max(seq) FROM feedback WHERE seq > 0 GROUP BY 1, 3;
