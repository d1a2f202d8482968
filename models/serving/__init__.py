"""Serving: rank candidates with the model in service, log what was shown, take feedback.

    python -m models.serving

A request's way, from HTTP to a training row:

1.  ``app``                          the route
2.  ``bodies``                       what the request must look like
3.  ``service``                      the surface's ranker; then, until what is logged is durable
4.  ``rank.ranking``                 features, scores, order, and the entry for the log
5.  ``follow.live_features``         the features in memory, which follow the log
6.  ``follow.champions``             the model in service, which follows the promotion records
7.  ``durable.acceptance``           the journal: many requests to one sync of the local disk
    ``durable.drain``                from there into the log, in batches, a moment later
8.  ``features.log.writing``         impressions and feedback, each once
9.  ``features.served.rows``         the rows that the impressions were ranked with
10. ``features.feast.store``         both and the labels, joined into the frame that an update trains on

Before it: ``access`` (who may call, and about which impressions).

Beside it: ``feedback`` (clicks and the rest), ``recommend`` (candidates where the request names none), ``items`` (what
a team puts) and ``follow.item_changes`` (which every process follows), ``rank.views`` (a team's own views), ``scoring``
(a model made ready for requests), ``durable.database`` (whether it is away), ``stages``, ``telemetry``, ``traces`` (how
long each stage of a request takes; metrics, log lines, OpenTelemetry), ``freshness``, ``state`` (what ``/readyz``
shows), ``answers`` and ``described`` (``/openapi.json``).
"""
