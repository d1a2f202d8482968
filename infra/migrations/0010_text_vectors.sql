-- What an encoder makes of a text: data with a version, made once. Encoders that nobody names any more may be deleted.

CREATE TABLE text_vectors (
    encoder text NOT NULL,          -- checksum of all that its vectors depend on
    key bigint NOT NULL,            -- of the text, as served rows have it
    vector real[] NOT NULL,         -- of length 1; `vector::vector(384)` for pgvector
    PRIMARY KEY (encoder, key)
);
