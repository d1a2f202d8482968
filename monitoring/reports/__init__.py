"""Evidently: the report of an update, and the dashboard of a surface over time."""
