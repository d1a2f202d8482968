-- Review by people: who may decide, their decisions beside the gate's, rollback, and surfaces held for a person.

ALTER TABLE updates DROP CONSTRAINT updates_state_check;
ALTER TABLE updates ADD CONSTRAINT updates_state_check
    CHECK (state IN ('claimed', 'promoted', 'held', 'rejected', 'failed', 'superseded', 'expired'));
ALTER TABLE updates ADD COLUMN decide_by timestamptz; -- of a held challenger: after this the champion stays

-- Why it was measured: by the update itself, again before an approval, or by the live watch.
ALTER TABLE evidence ADD COLUMN occasion text NOT NULL DEFAULT 'update'
    CHECK (occasion IN ('update', 'review', 'watch'));

ALTER TABLE decisions DROP CONSTRAINT decisions_action_check;
ALTER TABLE decisions ADD CONSTRAINT decisions_action_check
    CHECK (action IN ('promote', 'hold', 'reject', 'approve', 'expire', 'rollback')); -- approve: one of two approvers
ALTER TABLE decisions ADD COLUMN through text NOT NULL DEFAULT 'update'
    CHECK (through IN ('update', 'desk', 'prefect', 'command line', 'watch'));

ALTER TABLE promotions ADD COLUMN kind text NOT NULL DEFAULT 'update' CHECK (kind IN ('update', 'rollback'));
ALTER TABLE promotions DROP CONSTRAINT promotions_update_id_key;
CREATE UNIQUE INDEX promotions_one_an_update ON promotions (update_id) WHERE kind = 'update';
CREATE UNIQUE INDEX promotions_one_a_decision ON promotions (decision_id);

-- A promotion stands on a decision: to promote, the gate's own where the evidence says so or a named person's where it
-- does not say to reject; or to roll back, to a version that was in service before.
CREATE OR REPLACE FUNCTION require_backing() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NOT EXISTS (
        SELECT 1 FROM decisions d JOIN evidence e USING (evidence_id)
        WHERE d.decision_id = NEW.decision_id AND d.surface = NEW.surface AND d.update_id = NEW.update_id
          AND e.update_id = NEW.update_id AND e.surface = NEW.surface AND d.evidence_checksum = e.checksum
          AND CASE NEW.kind
              WHEN 'update' THEN d.action = 'promote'
                  AND (d.decided_by NOT IN ('gate', 'watch', 'deadline') AND e.verdict <> 'reject'
                       OR (d.decided_by = 'gate' AND e.verdict = 'promote'))
              ELSE d.action = 'rollback' AND d.decided_by NOT IN ('gate', 'deadline') AND EXISTS (
                  SELECT 1 FROM promotions p WHERE p.surface = NEW.surface AND p.version = NEW.version
                    AND p.artifact_uri = NEW.artifact_uri AND p.update_id = NEW.update_id AND p.kind = 'update')
              END
    ) THEN
        RAISE EXCEPTION 'promotion of % is not backed by a decision', NEW.version USING ERRCODE = 'check_violation';
    END IF;
    RETURN NEW;
END $$;

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
CREATE TRIGGER holds_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON holds
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();

-- People. The names by which the program itself decides are nobody's.
CREATE TABLE users (
    user_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name text NOT NULL UNIQUE CHECK (name ~ '^[a-z0-9][a-z0-9._@-]{0,63}$' AND name NOT IN ('gate', 'watch', 'deadline')),
    password text NOT NULL,   -- argon2id, with its salt and cost
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    disabled_at timestamptz
);

CREATE TABLE grants (
    user_id bigint NOT NULL REFERENCES users,
    surface text NOT NULL,    -- '*': every surface
    role text NOT NULL CHECK (role IN ('viewer', 'analyst', 'operator')),
    PRIMARY KEY (user_id, surface)
);

CREATE TABLE sessions (
    token_sha256 bytea PRIMARY KEY, -- of the cookie, which is kept nowhere
    user_id bigint NOT NULL REFERENCES users,
    csrf text NOT NULL,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    seen_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    expires_at timestamptz NOT NULL
);

CREATE TABLE sign_ins (
    sign_in_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name text NOT NULL,
    address text,
    succeeded boolean NOT NULL,
    tried_at timestamptz NOT NULL DEFAULT clock_timestamp()
);
CREATE INDEX sign_ins_name ON sign_ins (name, tried_at);

-- A reviewer's word outside the desk, good once: entered in Prefect's form, which knows no users.
CREATE TABLE review_codes (
    code_sha256 bytea PRIMARY KEY,
    user_id bigint NOT NULL REFERENCES users,
    expires_at timestamptz NOT NULL,
    used_at timestamptz
);

CREATE INDEX evidence_update ON evidence (update_id);
CREATE INDEX decisions_update ON decisions (update_id);
CREATE INDEX promotions_version ON promotions (surface, version);
-- Of thousands of updates a few ask whether a new design is better; the next such question begins at the newest of them.

CREATE INDEX evidence_tests ON evidence (surface, update_id) WHERE figures ? 'tests';
