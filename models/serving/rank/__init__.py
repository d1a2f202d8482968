"""One request: features read, candidates scored and ordered."""
