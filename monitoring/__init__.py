"""May it go live, and is it well: evidence, gate, reports."""
