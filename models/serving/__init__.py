"""The HTTP app that ranks, explores and logs."""
