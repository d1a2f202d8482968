"""Candidates for a request that names none: sources, what they are made of, merged and filtered."""
