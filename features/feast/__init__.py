"""Feast: definitions, offline and online stores over PostgreSQL, training frames."""
