"""What chance does: tests, confidence sequences, the bootstrap, error control."""
