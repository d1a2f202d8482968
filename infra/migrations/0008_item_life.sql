-- Items have a life: they arrive, change, expire, are withdrawn and put back. Each change has its place: a writer holds
-- the surface's advisory lock of items from taking numbers to commit, so they become visible in order, and a reader that
-- remembers the last one it saw misses nothing.

CREATE SEQUENCE item_changes;

ALTER TABLE items
    ADD COLUMN arrived_at timestamptz NOT NULL DEFAULT now(),
    ADD COLUMN expires_at timestamptz,   -- from then on it is shown no more; null: it does not expire
    ADD COLUMN withdrawn_at timestamptz, -- null: it is not withdrawn
    ADD COLUMN change bigint NOT NULL DEFAULT nextval('item_changes'); -- the place of its last change

CREATE INDEX items_change ON items (surface, change);
