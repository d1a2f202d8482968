-- Variants that were stopped: known to be worse than another of the same thing. What was stopped, when and why is a
-- record; whether an item may be shown is the items' own (withdrawn_at).

CREATE TABLE stopped_variants (
    stopped_variant_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    surface text NOT NULL,
    item_id text NOT NULL,
    thing text NOT NULL,            -- of which it is a variant
    against text NOT NULL,          -- the item that it is worse than
    shown bigint NOT NULL,          -- its mature impressions by then, and the clicks on them
    clicks bigint NOT NULL,
    shown_against bigint NOT NULL,  -- the other's
    clicks_against bigint NOT NULL,
    evidence double precision NOT NULL, -- e-value: how much likelier what was seen is if it is worse
    chance double precision NOT NULL,   -- its part of the chance that a variant is stopped which is no worse
    reason text NOT NULL,
    stopped_at timestamptz NOT NULL
);
CREATE INDEX stopped_variants_item ON stopped_variants (surface, item_id, stopped_variant_id);

CREATE TRIGGER stopped_variants_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON stopped_variants
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
ALTER TABLE stopped_variants ENABLE ALWAYS TRIGGER stopped_variants_append_only;
