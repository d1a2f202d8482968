"""The review desk: pages on which people see what waits, what was decided, and decide.

Server-rendered HTML and one style sheet; no script of ours, no build step, nothing from elsewhere.
"""
