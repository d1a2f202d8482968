"""The faults that a drill plants, each at two strengths, and what is sound although it is not usual."""

from flows.drill.faults import drifts, features, labels, log, sound, training
from flows.drill.faults.fault import BAD, HOLD, SOUND, Fault, Met, Scene, Story

__all__ = ["FAULTS", "Fault", "Met", "Scene", "Story"]

FAULTS: tuple[Fault | Story, ...] = (
    Fault(
        "labels shuffled for the window",
        {"all of them": 1.0, "half of them": 0.5},
        BAD,
        labels.shuffled,
        labels.cannot_shuffle,
    ),
    Fault(
        "a feature stuck at zero",
        {"everywhere": 1.0, "on half of the rows": 0.5},
        BAD,
        features.stuck_at_zero,
        features.cannot_break,
    ),
    Fault(
        "a feature in other units",
        {"x 100": 100.0, "x 2.54": 2.54},
        BAD,
        features.other_units,
        features.cannot_scale,
        ladder=(1.2, 1.6, 2.54, 10.0, 100.0),
    ),
    Fault(
        "a feature not known",
        {"everywhere": 1.0, "on a third of the rows": 1 / 3},
        BAD,
        features.not_known,
        features.cannot_break,
    ),
    Fault(
        "the future leaked into a feature",
        {"by 4 sd": 4.0, "by 1.5 sd": 1.5},
        BAD,
        features.future_leaked,
        features.cannot_leak,
    ),
    Fault(
        "labels of one context dropped",
        {"all of them": 1.0, "60 % of them": 0.6},
        BAD,
        labels.dropped,
        labels.cannot_drop,
    ),
    Fault(
        "a bot that clicks everything",
        {"10 % of the requests": 0.1, "2 % of the requests": 0.02},
        BAD,
        log.bot,
        log.too_small_for_a_bot,
    ),
    Fault(
        "feedback logged twice",
        {"20 % of the labels": 0.2, "3 % of the labels": 0.03},
        BAD,
        log.logged_twice,
        log.cannot_log_twice,
    ),
    Fault(
        "an attribution window not closed",
        {"labels after a quarter of the window": 0.25, "after a tenth": 0.1},
        HOLD,
        labels.not_closed,
        labels.cannot_leave_open,
    ),
    Fault("traffic lost", {"95 % of it": 0.95, "80 % of it": 0.8}, BAD, log.traffic_lost, log.cannot_lose),
    Fault("items under new ids", {"all of them": 1.0, "40 % of them": 0.4}, BAD, log.items_renamed, log.cannot_rename),
    Fault(
        "a learning rate too high",
        {"x 300": 300.0, "x 100": 100.0},
        BAD,
        training.rate_too_high,
        training.hardly_trains,
        ladder=(3.0, 30.0, 300.0),
    ),
    Fault(
        "better overall, worse for new readers",
        {"by 25 %": 0.25, "by 15 %": 0.15},
        HOLD,
        training.worse_for_new_readers,
        training.nobody_is_new,
        ladder=(0.05, 0.1, 0.15, 0.25),
    ),
    Fault(
        "values of a new client version",
        {"on 30 % of the impressions": 0.3, "on 10 %": 0.1},
        HOLD,
        drifts.client_version,
        drifts.cannot_be_new,
    ),
    Story(
        "a slow drift over two days",
        {"of 80 points": 0.8, "of 60 points": 0.6},
        BAD,
        drifts.slow_drift,
        drifts.cannot_drift,
    ),
    Fault(
        "a market switched on",
        {"30 % of the traffic": 0.3, "15 % of the traffic": 0.15},
        HOLD,
        drifts.market,
        drifts.cannot_open,
    ),
    Fault(
        "a breaking story",
        {"in 60 % of the requests": 0.6, "in 30 % of the requests": 0.3},
        SOUND,
        sound.breaking_story,
        sound.cannot_break_news,
    ),
)
