"""PostgreSQL: the embedded server, connections and migrations, scratch databases, whole frames in and out."""
