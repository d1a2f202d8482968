-- Limits that people chose, and what was measured for choosing: how large a fault must be before a limit stops it.

CREATE TABLE limit_choices (
    choice_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    surface text NOT NULL,
    code text NOT NULL,                   -- of the finding: check/volume, slices
    at_most double precision CHECK (at_most > 0 AND at_most < 'Infinity'), -- null: as the surface's file declares
    before double precision NOT NULL,     -- the limit in force when this one was chosen
    chosen_by text NOT NULL CHECK (btrim(chosen_by) <> '' AND chosen_by NOT IN ('gate', 'canary', 'watch', 'deadline')),
    reason text NOT NULL CHECK (btrim(reason) <> ''),
    through text NOT NULL CHECK (through IN ('desk', 'command line')),
    windows bigint NOT NULL,              -- past windows known at the choice, and how many of them each limit stops
    stopped_before bigint NOT NULL,
    stopped_after bigint NOT NULL,
    smallest jsonb NOT NULL DEFAULT '[]', -- by fault: the smallest strength caught before and after
    chosen_at timestamptz NOT NULL DEFAULT clock_timestamp()
);
CREATE INDEX limit_choices_surface ON limit_choices (surface, choice_id);

CREATE TABLE limit_trials (
    trial_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    surface text NOT NULL,
    log text NOT NULL,                    -- the name of what was replayed
    measured jsonb NOT NULL,              -- clean windows and planted faults, with the limits that each needs
    measured_at timestamptz NOT NULL DEFAULT clock_timestamp()
);
CREATE INDEX limit_trials_surface ON limit_trials (surface, trial_id);

DO $$
DECLARE record text;
BEGIN
    FOREACH record IN ARRAY ARRAY['limit_choices', 'limit_trials'] LOOP
        EXECUTE format('CREATE TRIGGER %I BEFORE UPDATE OR DELETE OR TRUNCATE ON %I
            FOR EACH STATEMENT EXECUTE FUNCTION refuse_change()', record || '_append_only', record);
        EXECUTE format('ALTER TABLE %I ENABLE ALWAYS TRIGGER %I', record, record || '_append_only');
    END LOOP;
END $$;
