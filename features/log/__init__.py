"""The event log in PostgreSQL: impressions, feedback, items; partitions; dead letters."""
