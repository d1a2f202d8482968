"""What every HTTP server of ours has in common: where it listens, what it takes, and from whom."""
