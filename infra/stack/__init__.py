"""The embedded stack: its services, started in order, watched, and asked how they are."""
