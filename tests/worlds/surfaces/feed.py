"""The feed, with batches small enough to train on five thousand impressions, and a gate that bears their noise: it
promotes but what is far worse than the champion, or no better than the base rate."""

from dataclasses import replace

from flows.surfaces.feed import SURFACE as FEED
from models.learning.design import Design
from monitoring.gate.policy import Limit, Policy

WIDE = (
    *("calibration", "mean_prediction", "prediction_shift", "flattened"),
    *("slices", "forgetting", "in_sample", "too_good"),
)

SURFACE = replace(
    FEED,
    fewest=200,
    design=Design(FEED.design.shape, replace(FEED.design.learning, batch_requests=16)),
    policy=Policy(margin=0.3, early="pass", **dict.fromkeys(WIDE, Limit(100.0))),
)
