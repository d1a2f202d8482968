"""The words of the simulated headlines (:mod:`features.ingest.simulated_headlines`): who did what, how it is said."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Stories:
    """What the articles of a section may be about."""

    who: tuple[str, ...]
    did: tuple[tuple[str, str], ...]
    """As in "the council closes", and as in "can the council close"."""
    what: tuple[str, ...]


STORIES = {
    "city": Stories(
        ("the council", "the mayor", "a neighbourhood group", "the harbour authority", "the bus company"),
        (("closes", "close"), ("rebuilds", "rebuild"), ("saves", "save"), ("sells", "sell")),
        ("the old market hall", "a bridge over the river", "the night bus", "the last cinema", "a school yard"),
    ),
    "economy": Stories(
        ("the central bank", "a family bakery", "the car maker", "a pension fund", "the largest grocer"),
        (("cuts", "cut"), ("raises", "raise"), ("delays", "delay"), ("doubles", "double")),
        ("interest rates", "the price of bread", "holiday pay", "its bet on housing", "monthly fees"),
    ),
    "football": Stories(
        ("the home side", "a teenage keeper", "the captain", "the league", "an amateur club"),
        (("beats", "beat"), ("drops", "drop"), ("signs", "sign"), ("copies", "copy")),
        ("the champions", "a goalless rival", "the coach of the year", "the offside rule", "a striker from nowhere"),
    ),
    "food": Stories(
        ("a village cook", "the pastry school", "a food lab", "the fish market", "a winning chef"),
        (("reinvents", "reinvent"), ("ruins", "ruin"), ("serves", "serve"), ("bans", "ban")),
        ("the apple pie", "tomato soup", "street noodles", "the Sunday roast", "sourdough in summer"),
    ),
    "health": Stories(
        ("a sleep clinic", "the children's hospital", "a large study", "the family doctor", "a running coach"),
        (("explains", "explain"), ("questions", "question"), ("treats", "treat"), ("defends", "defend")),
        ("morning headaches", "the afternoon nap", "knee pain", "ten thousand steps", "coffee after six"),
    ),
    "science": Stories(
        ("a space probe", "a team of divers", "the weather service", "a bee keeper", "the telescope crew"),
        (("finds", "find"), ("maps", "map"), ("loses", "lose"), ("films", "film")),
        ("a hidden lake", "the oldest star", "a warm current", "sleeping whales", "ice on a dry moon"),
    ),
    "travel": Stories(
        ("the night train", "an island town", "a mountain hut", "the ferry line", "a slow traveller"),
        (("reopens", "reopen"), ("limits", "limit"), ("invents", "invent"), ("leaves", "leave")),
        ("the coast route", "day visitors", "a week without phones", "its busiest beach", "the winter timetable"),
    ),
}
"""By section."""

ASIDES = {
    "number": ("{n} reasons why {who} {did} {what}", "{n} things to know as {who} {did} {what}"),
    "question": ("Can {who} {do} {what}?", "Will {who} {do} {what}?", "Why would {who} {do} {what}?"),
    "you": ("What it means for you that {who} {did} {what}", "You should know how {who} {did} {what}"),
    "quote": ("'We had no choice': {who} {did} {what}", "'I still cannot believe it': {who} {did} {what}"),
    "plain": ("{who} {did} {what}",),
}
"""By the form of a headline, the ways to say it."""

FORMS = {"number": 0.35, "question": -0.3, "you": 0.3, "quote": 0.15, "plain": 0.0}
"""What each form adds to the log-odds of a click."""

OPENINGS = {"": 0.0, "Finally": 0.2, "Secret": 0.35, "Warning": 0.25, "Shock": -0.3, "Update": -0.35, "Official": -0.3}
"""The same of the word that a headline opens with; "": none."""
