-- Who may speak to serving: API keys, and the secrets that impression ids are signed with.

CREATE TABLE api_keys (
    key_id text PRIMARY KEY CHECK (key_id ~ '^[0-9a-f]{12}$'),
    name text NOT NULL CHECK (name ~ '^[a-z0-9][a-z0-9._@-]{0,63}$'),
    secret_sha256 bytea NOT NULL CHECK (octet_length(secret_sha256) = 32), -- of the secret, which is kept nowhere
    surface text NOT NULL,    -- '*': every surface
    scopes text[] NOT NULL CHECK (cardinality(scopes) > 0
        AND scopes <@ ARRAY['rank', 'feedback', 'events', 'items', 'admin']),
    requests_per_second double precision CHECK (requests_per_second > 0 AND requests_per_second < 'Infinity'),
                              -- of each serving process; null: as many as come
    created_at timestamptz NOT NULL,
    expires_at timestamptz CHECK (expires_at > created_at),
    revoked_at timestamptz
);
CREATE UNIQUE INDEX api_keys_name ON api_keys (name) WHERE revoked_at IS NULL;

-- The newest signs, all verify.
CREATE TABLE signing_secrets (
    secret_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    secret bytea NOT NULL UNIQUE CHECK (octet_length(secret) = 32),
    made_at timestamptz NOT NULL
);

CREATE TRIGGER signing_secrets_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON signing_secrets
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
ALTER TABLE signing_secrets ENABLE ALWAYS TRIGGER signing_secrets_append_only;
