"""What the story of an update calls, step by step."""
