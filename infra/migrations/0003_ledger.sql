-- The update ledger, and the records that nobody may change: evidence, decisions, promotions, holds, history.

CREATE TABLE updates (
    update_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    surface text NOT NULL,
    as_of timestamptz NOT NULL,
    parent_version text,                  -- champion at claim; null: there was none
    window_start timestamptz NOT NULL,    -- exclusive
    split_at timestamptz NOT NULL,        -- training part (window_start, split_at]
    window_end timestamptz NOT NULL,      -- judging part (split_at, window_end]
    state text NOT NULL CHECK (state IN ('claimed', 'canary', 'promoted', 'held', 'rejected', 'failed', 'superseded',
        'expired')),
    challenger_version text,
    seconds jsonb NOT NULL DEFAULT '{}',  -- by step
    error text,
    flow_run_id text,
    attempts integer NOT NULL DEFAULT 1,
    claimed_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    finished_at timestamptz,
    decide_by timestamptz,                -- of a held challenger: after this the champion stays
    CHECK (window_start < split_at AND split_at <= window_end)
);
CREATE UNIQUE INDEX updates_one_claim ON updates (surface) WHERE state = 'claimed';

CREATE TABLE evidence (
    evidence_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    surface text NOT NULL,
    update_id bigint NOT NULL REFERENCES updates,
    occasion text NOT NULL CHECK (occasion IN ('update', 'review', 'watch', 'canary')),
                              -- review: again, before an approval
    champion_version text,
    weights_sha256 text,      -- of the challenger that was measured; null: there was none
    verdict text NOT NULL CHECK (verdict IN ('promote', 'hold', 'reject')),
    codes text[] NOT NULL,    -- of the gate's findings
    reasons text[] NOT NULL,  -- the same as sentences
    measured jsonb NOT NULL,  -- everything measured (monitoring/evaluation/evidence.py)
    checksum text NOT NULL,   -- sha256 of verdict, codes, reasons, weights and what was measured in canonical JSON
    measured_at timestamptz NOT NULL DEFAULT clock_timestamp()
);
CREATE INDEX evidence_update ON evidence (update_id);

-- What the algorithms need to remember of an update that came to a verdict: a row each, in columns.
CREATE TYPE process_record AS (
    updates bigint,
    requests bigint,
    mean double precision,        -- gain of a request, as a share of the champion's log loss
    variance double precision,
    cusum double precision,
    judged_to timestamptz,
    against text[],               -- versions of reference champions, and the CUSUM against each
    against_cusum double precision[],
    promotions bigint,            -- since the proven baseline; gains of requests over it, and promotions since those
    baseline_requests bigint,
    baseline_mean double precision,
    baseline_variance double precision,
    baseline_staleness double precision
);

CREATE TABLE update_history (
    history_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    surface text NOT NULL,
    update_id bigint NOT NULL REFERENCES updates,
    champion_version text,
    window_start timestamptz NOT NULL,
    window_end timestamptz NOT NULL,
    impressions bigint NOT NULL,
    label_rate double precision,
    log_loss double precision,    -- the champion's, before anything trained on the window
    agreement double precision,   -- of the labels with the champion
    new_users double precision,   -- shares of the impressions
    new_items double precision,
    failed_checks text[] NOT NULL,
    process_before process_record,
    process_after process_record,
    tested bigint,                -- tests of new designs so far, and the numbers of those that promoted
    tests_promoted bigint[],
    baseline_version text,
    baseline_moves boolean NOT NULL,
    profile_names text[] NOT NULL,
    profile_rows bigint[] NOT NULL,  -- by hour of the window
    profile_clicked bigint[] NOT NULL,
    profile_users double precision[] NOT NULL,
    profiles real[] NOT NULL,        -- [hours, figures, features]
    limit_codes text[] NOT NULL,     -- codes of findings, and the least limit of each with which the window passes
    limits_needed double precision[] NOT NULL,
    measured_at timestamptz NOT NULL DEFAULT clock_timestamp()
);
CREATE INDEX update_history_update ON update_history (update_id);
CREATE INDEX update_history_tests ON update_history (surface, update_id) WHERE tested IS NOT NULL;

CREATE TABLE decisions (
    decision_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    surface text NOT NULL,
    update_id bigint NOT NULL REFERENCES updates,
    evidence_id bigint NOT NULL REFERENCES evidence,
    evidence_checksum text NOT NULL,
    action text NOT NULL CHECK (action IN ('promote', 'canary', 'hold', 'reject', 'approve', 'expire', 'rollback')),
                              -- canary: to be tried on live traffic; approve: one of several approvers
    decided_by text NOT NULL, -- 'gate', 'canary', 'watch', 'deadline', or a person's name
    reason text NOT NULL,
    through text NOT NULL DEFAULT 'update'
        CHECK (through IN ('update', 'canary', 'desk', 'prefect', 'command line', 'watch')),
    decided_at timestamptz NOT NULL DEFAULT clock_timestamp()
);
CREATE INDEX decisions_update ON decisions (update_id);

CREATE TABLE promotions (
    promotion_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    surface text NOT NULL,
    version text NOT NULL,
    artifact_uri text NOT NULL,       -- where serving loads the weights from
    previous_version text,
    update_id bigint NOT NULL REFERENCES updates,
    decision_id bigint NOT NULL REFERENCES decisions,
    kind text NOT NULL DEFAULT 'update' CHECK (kind IN ('update', 'rollback')),
    learned_to timestamptz NOT NULL,  -- event time of the newest impression in the training part
    promoted_at timestamptz NOT NULL DEFAULT clock_timestamp()
);
CREATE INDEX promotions_surface ON promotions (surface, promotion_id);
CREATE INDEX promotions_version ON promotions (surface, version);
CREATE UNIQUE INDEX promotions_one_an_update ON promotions (update_id) WHERE kind = 'update';
CREATE UNIQUE INDEX promotions_one_a_decision ON promotions (decision_id);

-- Whether a surface waits for a person: its newest row says.
CREATE TABLE holds (
    hold_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    surface text NOT NULL,
    held boolean NOT NULL,    -- false: let go
    decided_by text NOT NULL, -- 'watch', or a person's name
    reason text NOT NULL,
    decided_at timestamptz NOT NULL DEFAULT clock_timestamp()
);
CREATE INDEX holds_surface ON holds (surface, hold_id);

CREATE FUNCTION refuse_change() RETURNS trigger LANGUAGE plpgsql SET search_path = pg_catalog, public, pg_temp AS $$
BEGIN
    RAISE EXCEPTION '% is append-only: % refused', TG_TABLE_NAME, TG_OP USING ERRCODE = 'insufficient_privilege';
END $$;

-- A promotion stands on a decision: to promote, the gate's own where the evidence says so or a named person's where it
-- does not say to reject; or to roll back, to a version that was in service before. What backs it is looked for in the
-- tables themselves: a temporary table of the same name would be found first. What a canary must have besides is in
-- 0009_canaries.sql.
CREATE FUNCTION require_backing() RETURNS trigger LANGUAGE plpgsql SET search_path = pg_catalog, public, pg_temp AS $$
BEGIN
    IF NOT EXISTS (
        SELECT 1 FROM decisions d JOIN evidence e USING (evidence_id)
        WHERE d.decision_id = NEW.decision_id AND d.surface = NEW.surface AND d.update_id = NEW.update_id
          AND e.update_id = NEW.update_id AND e.surface = NEW.surface AND d.evidence_checksum = e.checksum
          AND CASE NEW.kind
              WHEN 'update' THEN d.action = 'promote'
                  AND (d.decided_by NOT IN ('gate', 'canary', 'watch', 'deadline') AND e.verdict <> 'reject'
                       OR (d.decided_by = 'gate' AND e.verdict = 'promote')
                       OR (d.decided_by = 'canary' AND e.occasion = 'canary' AND e.verdict = 'promote'))
              ELSE d.action = 'rollback' AND d.decided_by NOT IN ('gate', 'canary', 'deadline') AND EXISTS (
                  SELECT 1 FROM promotions p WHERE p.surface = NEW.surface AND p.version = NEW.version
                    AND p.artifact_uri = NEW.artifact_uri AND p.update_id = NEW.update_id AND p.kind = 'update')
              END
    ) THEN
        RAISE EXCEPTION 'promotion of % is not backed by a decision', NEW.version USING ERRCODE = 'check_violation';
    END IF;
    RETURN NEW;
END $$;

-- The guards fire whatever session_replication_role says.
CREATE TRIGGER promotions_backed BEFORE INSERT ON promotions FOR EACH ROW EXECUTE FUNCTION require_backing();
ALTER TABLE promotions ENABLE ALWAYS TRIGGER promotions_backed;

DO $$
DECLARE record text;
BEGIN
    FOREACH record IN ARRAY ARRAY['evidence', 'update_history', 'decisions', 'promotions', 'holds'] LOOP
        EXECUTE format('CREATE TRIGGER %I BEFORE UPDATE OR DELETE OR TRUNCATE ON %I
            FOR EACH STATEMENT EXECUTE FUNCTION refuse_change()', record || '_append_only', record);
        EXECUTE format('ALTER TABLE %I ENABLE ALWAYS TRIGGER %I', record, record || '_append_only');
    END LOOP;
END $$;
