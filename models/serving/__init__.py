"""Serving: rank candidates with the model in service, log what was shown, take feedback.

    python -m models.serving

Parts, from the edge inward:

- ``app``        the HTTP routes, and ``create_app``
- ``bodies``     what a request must look like
- ``service``    what runs beside the requests, and how it starts and stops
- ``ranking``    one surface: features, scores, order
- ``champions``  the model in service; follows the promotion records
- ``knowledge``  the features in memory; follows the log
- ``journal``    writes what was accepted, many requests to one commit
- ``spool``      keeps it in files while the database is away
- ``database``   is it there, and the connections to it
- ``telemetry``  metrics and log lines
"""
