"""Small worlds made from a seed: impressions whose truth is known, and what stands around them.

``impressions`` draws them, once for all. ``examples``, ``events`` and ``windows`` give them as the learner, the fold
and the gate see them; ``challengers`` says what the gate is shown of a model of known worth. ``rows`` writes what an
update leaves in the database, and ``loop``, ``serving`` and ``desk`` are the installed parts over one.
"""
