-- The update ledger, and the records that nobody may change: evidence, decisions, promotions.

CREATE TABLE updates (
    update_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    surface text NOT NULL,
    as_of timestamptz NOT NULL,
    parent_version text,                  -- champion at claim; null: there was none
    window_start timestamptz NOT NULL,    -- exclusive
    split_at timestamptz NOT NULL,        -- training part (window_start, split_at]
    window_end timestamptz NOT NULL,      -- judging part (split_at, window_end]
    state text NOT NULL CHECK (state IN ('claimed', 'promoted', 'held', 'rejected', 'failed', 'superseded')),
    challenger_version text,
    seconds jsonb NOT NULL DEFAULT '{}',  -- by step
    error text,
    flow_run_id text,
    attempts integer NOT NULL DEFAULT 1,
    claimed_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    finished_at timestamptz,
    CHECK (window_start < split_at AND split_at <= window_end)
);
CREATE UNIQUE INDEX updates_one_claim ON updates (surface) WHERE state = 'claimed';

CREATE TABLE evidence (
    evidence_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    surface text NOT NULL,
    update_id bigint NOT NULL REFERENCES updates,
    champion_version text,
    verdict text NOT NULL CHECK (verdict IN ('promote', 'hold', 'reject')),
    reasons jsonb NOT NULL,   -- sentences
    figures jsonb NOT NULL,   -- everything measured
    checksum text NOT NULL,   -- sha256 of verdict, reasons and figures in canonical JSON
    measured_at timestamptz NOT NULL DEFAULT clock_timestamp()
);

CREATE TABLE decisions (
    decision_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    surface text NOT NULL,
    update_id bigint NOT NULL REFERENCES updates,
    evidence_id bigint NOT NULL REFERENCES evidence,
    evidence_checksum text NOT NULL,
    action text NOT NULL CHECK (action IN ('promote', 'hold', 'reject')),
    decided_by text NOT NULL, -- 'gate', or a person's name
    reason text NOT NULL,
    decided_at timestamptz NOT NULL DEFAULT clock_timestamp()
);

CREATE TABLE promotions (
    promotion_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    surface text NOT NULL,
    version text NOT NULL,
    artifact_uri text NOT NULL,       -- where serving loads the weights from
    previous_version text,
    update_id bigint NOT NULL REFERENCES updates,
    decision_id bigint NOT NULL REFERENCES decisions,
    learned_to timestamptz NOT NULL,  -- event time of the newest impression in the training part
    promoted_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    UNIQUE (update_id)
);
CREATE INDEX promotions_surface ON promotions (surface, promotion_id);

CREATE FUNCTION refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION '% is append-only: % refused', TG_TABLE_NAME, TG_OP USING ERRCODE = 'insufficient_privilege';
END $$;

CREATE TRIGGER evidence_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON evidence
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
CREATE TRIGGER decisions_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON decisions
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
CREATE TRIGGER promotions_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON promotions
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();

-- A promotion stands on a decision to promote: the gate's own, where the evidence says so, or a named person's.
CREATE FUNCTION require_backing() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NOT EXISTS (
        SELECT 1 FROM decisions d JOIN evidence e USING (evidence_id)
        WHERE d.decision_id = NEW.decision_id AND d.surface = NEW.surface AND d.action = 'promote'
          AND d.evidence_checksum = e.checksum
          AND (d.decided_by <> 'gate' OR e.verdict = 'promote')
    ) THEN
        RAISE EXCEPTION 'promotion of % is not backed by a decision to promote', NEW.version
            USING ERRCODE = 'check_violation';
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER promotions_backed BEFORE INSERT ON promotions FOR EACH ROW EXECUTE FUNCTION require_backing();
