-- People: who may look, decide and roll back, and how they prove who they are.

-- The names by which the program itself decides are nobody's.
CREATE TABLE people (
    user_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name text NOT NULL UNIQUE
        CHECK (name ~ '^[a-z0-9][a-z0-9._@-]{0,63}$' AND name NOT IN ('gate', 'canary', 'watch', 'deadline')),
    password text NOT NULL,   -- argon2id, with its salt and cost
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    disabled_at timestamptz
);

CREATE TABLE grants (
    user_id bigint NOT NULL REFERENCES people,
    surface text NOT NULL,    -- '*': every surface
    role text NOT NULL CHECK (role IN ('viewer', 'analyst', 'operator')),
    PRIMARY KEY (user_id, surface)
);

CREATE TABLE sessions (
    token_sha256 bytea PRIMARY KEY, -- of the cookie, which is kept nowhere
    user_id bigint NOT NULL REFERENCES people,
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
    user_id bigint NOT NULL REFERENCES people,
    expires_at timestamptz NOT NULL,
    used_at timestamptz
);
