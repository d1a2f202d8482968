"""The surfaces that come with Millrace, one file each: examples to copy, and what the demo shows."""
