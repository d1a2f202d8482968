"""Id tables that grow: rows of weights by id, in memory or mapped from files."""
