"""What was accepted, until PostgreSQL has it: the journal, and the spool while PostgreSQL is away."""
