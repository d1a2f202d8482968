"""What was accepted, until PostgreSQL has it: where it is put, and how it is brought there."""
