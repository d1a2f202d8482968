"""Events into the log: from files, and the seeded log for demo and tests."""
