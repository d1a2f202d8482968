"""A team's own tables of values by key and time, joined point in time."""
