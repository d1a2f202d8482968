-- Canaries: a challenger on live traffic before it is the champion. What began, every look at it and how it ended are
-- records; what serving counts of it, and what a shadow has scored, are not.

CREATE TABLE canaries (
    canary_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    surface text NOT NULL,
    update_id bigint NOT NULL UNIQUE REFERENCES updates,
    version text NOT NULL,
    artifact_uri text NOT NULL,
    champion_version text NOT NULL, -- what it is compared with, and stands still meanwhile
    salt text NOT NULL,             -- with it users are shared out anew
    settings jsonb NOT NULL,        -- as the surface declared it then (monitoring/live/canary.py)
    learned_to timestamptz NOT NULL,
    decision_id bigint NOT NULL UNIQUE REFERENCES decisions,
    began_at timestamptz NOT NULL DEFAULT clock_timestamp()
);
CREATE INDEX canaries_surface ON canaries (surface, canary_id);

CREATE TABLE canary_looks (
    canary_look_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    canary_id bigint NOT NULL REFERENCES canaries,
    looked_at timestamptz NOT NULL,
    word text NOT NULL CHECK (word IN ('wait', 'promote', 'roll back')),
    point jsonb NOT NULL            -- the figures of this look: the canary's path is made of them
);
CREATE INDEX canary_looks_canary ON canary_looks (canary_id, canary_look_id);

CREATE TABLE canary_ends (
    canary_id bigint PRIMARY KEY REFERENCES canaries,
    outcome text NOT NULL CHECK (outcome IN ('promoted', 'rolled back', 'superseded')),
    decision_id bigint UNIQUE REFERENCES decisions,
    reason text NOT NULL,
    ended_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    CHECK ((decision_id IS NULL) = (outcome = 'superseded'))
);

-- Since it began, by each serving process: a row is its sum so far.
CREATE TABLE canary_counts (
    canary_id bigint NOT NULL REFERENCES canaries,
    process text NOT NULL,
    arm text NOT NULL CHECK (arm IN ('canary', 'control')),
    answered bigint NOT NULL,
    errors bigint NOT NULL,
    empty bigint NOT NULL,
    slow bigint NOT NULL,
    scores bigint[] NOT NULL,       -- impressions by score, in bins of one width from 0 to 1
    slow_after_s double precision,  -- what is slow: the champion's 99th percentile here when the canary began
    counted_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (canary_id, process, arm)
);

-- Of a shadow: what both versions predict for what the champion showed. Kept until the surface's next canary begins.
CREATE TABLE shadow_scores (
    canary_id bigint NOT NULL REFERENCES canaries,
    impression_id text NOT NULL,
    champion real NOT NULL,
    canary real NOT NULL,
    PRIMARY KEY (canary_id, impression_id)
);

-- One canary at a time of a surface, on the gate's word, beside the champion of now.
CREATE FUNCTION expect_canary() RETURNS trigger LANGUAGE plpgsql SET search_path = pg_catalog, public, pg_temp AS $$
BEGIN
    PERFORM pg_advisory_xact_lock(hashtextextended('millrace.promotions.' || NEW.surface, 0));
    IF EXISTS (SELECT 1 FROM canaries c LEFT JOIN canary_ends e USING (canary_id)
               WHERE c.surface = NEW.surface AND e.canary_id IS NULL) THEN
        RAISE EXCEPTION '% has a canary already: % refused', NEW.surface, NEW.version USING ERRCODE = 'check_violation';
    END IF;
    IF NOT EXISTS (
        SELECT 1 FROM decisions d JOIN evidence e USING (evidence_id)
        WHERE d.decision_id = NEW.decision_id AND d.surface = NEW.surface AND d.update_id = NEW.update_id
          AND e.update_id = NEW.update_id AND d.evidence_checksum = e.checksum AND d.action = 'canary'
          AND d.decided_by = 'gate' AND e.verdict = 'promote'
    ) THEN
        RAISE EXCEPTION 'canary % is not backed by a decision', NEW.version USING ERRCODE = 'check_violation';
    END IF;
    IF NEW.champion_version IS DISTINCT FROM (
        SELECT version FROM promotions WHERE surface = NEW.surface ORDER BY promotion_id DESC LIMIT 1
    ) THEN
        RAISE EXCEPTION '% is not the champion of %', NEW.champion_version, NEW.surface
            USING ERRCODE = 'check_violation';
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER canaries_backed BEFORE INSERT ON canaries FOR EACH ROW EXECUTE FUNCTION expect_canary();
ALTER TABLE canaries ENABLE ALWAYS TRIGGER canaries_backed;

-- An end stands on a decision about the same update.
CREATE FUNCTION expect_canary_end() RETURNS trigger LANGUAGE plpgsql SET search_path = pg_catalog, public, pg_temp AS $$
BEGIN
    IF NEW.decision_id IS NOT NULL AND NOT EXISTS (
        SELECT 1 FROM canaries c JOIN decisions d USING (surface, update_id)
        WHERE c.canary_id = NEW.canary_id AND d.decision_id = NEW.decision_id
          AND CASE NEW.outcome WHEN 'promoted' THEN d.action = 'promote' ELSE d.action IN ('reject', 'expire') END
    ) THEN
        RAISE EXCEPTION 'the end of canary % is not backed by a decision', NEW.canary_id
            USING ERRCODE = 'check_violation';
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER canary_ends_backed BEFORE INSERT ON canary_ends FOR EACH ROW EXECUTE FUNCTION expect_canary_end();
ALTER TABLE canary_ends ENABLE ALWAYS TRIGGER canary_ends_backed;

-- While a canary runs its champion stands still; and what was a canary is promoted as that, by the end of it, whoever
-- decides.
CREATE FUNCTION expect_canary_ended() RETURNS trigger LANGUAGE plpgsql SET search_path = pg_catalog, public, pg_temp AS
$$
BEGIN
    IF EXISTS (SELECT 1 FROM canaries c LEFT JOIN canary_ends e USING (canary_id)
               WHERE c.surface = NEW.surface AND e.canary_id IS NULL) THEN
        RAISE EXCEPTION 'a canary of % runs: promotion of % refused', NEW.surface, NEW.version
            USING ERRCODE = 'check_violation';
    END IF;
    IF NEW.kind = 'update' AND (
        EXISTS (SELECT 1 FROM canaries WHERE update_id = NEW.update_id)
        OR EXISTS (SELECT 1 FROM decisions WHERE decision_id = NEW.decision_id AND decided_by = 'canary')
    ) AND NOT EXISTS (
        SELECT 1 FROM canaries c JOIN canary_ends e USING (canary_id)
        WHERE c.surface = NEW.surface AND c.update_id = NEW.update_id AND c.version = NEW.version
          AND c.artifact_uri = NEW.artifact_uri AND e.outcome = 'promoted' AND e.decision_id = NEW.decision_id
    ) THEN
        RAISE EXCEPTION 'promotion of % is not the end of its canary', NEW.version USING ERRCODE = 'check_violation';
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER promotions_canary_ended BEFORE INSERT ON promotions
    FOR EACH ROW EXECUTE FUNCTION expect_canary_ended();
ALTER TABLE promotions ENABLE ALWAYS TRIGGER promotions_canary_ended;

DO $$
DECLARE record text;
BEGIN
    FOREACH record IN ARRAY ARRAY['canaries', 'canary_looks', 'canary_ends'] LOOP
        EXECUTE format('CREATE TRIGGER %I BEFORE UPDATE OR DELETE OR TRUNCATE ON %I
            FOR EACH STATEMENT EXECUTE FUNCTION refuse_change()', record || '_append_only', record);
        EXECUTE format('ALTER TABLE %I ENABLE ALWAYS TRIGGER %I', record, record || '_append_only');
    END LOOP;
END $$;
