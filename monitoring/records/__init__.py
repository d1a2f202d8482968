"""Evidence, decisions and holds: append-only in the database itself."""
