"""Serving: rank candidates with the model in service, log what was shown, take feedback.

    python -m models.serving

A request's way, from HTTP to a training row:

1.  ``app``                          the route
2.  ``bodies``                       what the request must look like
3.  ``service``                      the surface's ranker; then, until what is logged is durable
4.  ``rank.ranking``                 features, scores, order, and the entry for the log
5.  ``follow.live_features``         the features in memory, which follow the log
6.  ``follow.champions``             the model in service, which follows the promotion records
7.  ``durable.journal``              many requests to one commit
8.  ``features.log.writing``         impressions and feedback, each once
9.  ``features.served.rows``         the rows that the impressions were ranked with
10. ``features.feast.store``         both and the labels, joined into the frame that an update trains on

Beside it: ``feedback`` (clicks and the rest), ``follow.retriever`` (candidates where the request names none),
``rank.views`` (a team's own views), ``scoring`` (the model, made ready for the candidates of a request),
``durable.spool`` and ``durable.drain`` (while the database is away), ``durable.database`` (whether it is away),
``telemetry`` (metrics and log lines).
"""
