"""What the gate finds in the evidence, and the live watch and the canary in what is served: each finding has a code,
and its sentence is made from the code here.

    Finding("few_requests", "hold", {"requests": "12 requests", "least": "20"}).sentence

A failed data check is the finding ``check/NAME``. Facts are texts already: the figures of a sentence are formatted by
`monitoring/sentences.py` alone.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from monitoring.gate.policy import Word

SENTENCES: Mapping[str, str] = {
    # data
    "check": "Data check '{name}' failed: {detail} Allowed: {limit}.{rows}",
    # is there anything to compare
    "not_finite": "The challenger's prediction is not a number on {count} of {impressions}.",
    "measure_not_finite": "The challenger's {measure} is not a finite number.",
    "weights_not_finite": "The weights that would go live predict no number on {impressions} of the window.",
    "nothing_to_compare": "There is nothing to compare the challenger on.",
    "few_requests": "The judged part is too thin: {requests}, of at least {least}.",
    # a first model
    "base_rate_not_comparable": "The log loss {where} cannot be compared with the base rate's.",
    "worse_than_base_rate": "{compared}; a first model must be better than that, and has more to learn from later.",
    "not_shown_better_than_base_rate": "{compared}, which is not shown ({bound}).",
    "better_than_base_rate": "{compared} ({bound}).",
    # a routine update: not worse?
    "too_thin": "{compared} Too thin to judge by: it takes {least} requests.",
    "worse_beyond_chance": "{compared} No chance explains that: at best it is {best}, allowed is {margin}.",
    "shown_worse": "{compared} It is shown to be higher ({confidence}), and allowed is {margin}.",
    "not_yet_shown": "{compared} {process}; not yet shown to be less than {margin} higher.",
    "sum_not_yet_shown": "{compared} {process}. After {since} since the proven baseline it may be {lost} than that"
    " one's, for what is shown yet, and {in_all} is allowed.",
    "process_loses": "{compared} {process}: updates are shown to lose ({confidence}), if little, and it adds up.",
    "cusum_alarm": "{compared} {process}, but the newest challengers lose (CUSUM alarm): chance raises it once in"
    " {updates} updates.",
    "not_worse": "{compared} {process}; allowed is {margin} higher.",
    # a new design: better?
    "shown_better": "{compared} It is shown to be better: {chances}.",
    "shown_worse_design": "{compared} It is worse, and by no chance: at best {best}.",
    "not_shown_better": "{compared} It is not shown to be better: {chances}.",
    # against champions of before
    "losses_added_up": "Small losses have added up: the challenger's log loss is {losses}.",
    "losses_of_the_champion": "The challenger's log loss is {losses}, which is no more than the champion has lost"
    " already.",
    "no_losses": "No losses add up: the challenger's log loss is {gains}.",
    "no_reference": "There is no champion of before to compare with.",
    # guardrails
    "unmeasured": "The {figure} could not be measured.",
    "stopped_early": "Training stopped early: the model that was trained predicted the impressions to come worse than"
    " the one that was not. Look at the learning rate and at the window.",
    "too_good": "The log loss is {gain} lower than the champion's, which is too good to be a better model alone: look"
    " for the future in the features.",
    "calibration": "The challenger's calibration error is {now}{before}, beyond what chance gives.",
    "mean_prediction": "The mean prediction moved from {before} to {now}.",
    "flat": "The challenger's predictions vary {spread} as much as the champion's: it has gone flat.",
    "prediction_shift": "One prediction in a hundred moved by {shift} or more in log-odds.",
    "slices": "The challenger loses on {slices}, shown to be more than {allowed}.",
    "in_sample": "Its final weights lose {lost} to the champion on the very window they were trained on.",
    "forgetting": "On the day before, its log loss is {lost} higher than the champion's: it forgets.",
    "no_earlier_window": "There is no older window to see forgetting on.",
    "skew": "Of the values served, {share} are not what the log gives: {features}.",
    "skew_of_one": "The feature {feature} was served otherwise than the log gives it on {share} of the rows.",
    "drift": "{columns} differ{s} from {against}.",
    "season_drift": "{columns} differ{s} from {against}.",
    "ranking_value": "By the logged propensities its order of items is worth {lost} less than the champion's.",
    "towers_not_finite": "Its towers give vectors that are not numbers ({count} of users and items).",
    "recall": "Of the next clicks its towers find {found} among {among} items.",
    "recall_in_sample": "Of the last clicks it was trained on its towers find {found} among {among} items.",
    "text_not_finite": "What it makes of texts is no number ({count} of them).",
    "rated": "On {queries} that people rated its encoder has an NDCG of {now}, the champion's {before}.",
    "rated_as_it_comes": "On {queries} that people rated its encoder has an NDCG of {now}, the encoder as it comes"
    " {before}.",
    "query_drift": "What is asked for differs from {against}: MMD² {mmd}, up to {limit} is usual. Farthest from it"
    " {named}.",
    "exposure": "The exposure of {value} goes from {before} to {now}.",
    "scoring_time": "Scoring {candidates} candidates takes {took} ms (99th percentile).",
    "size": "The model has {megabytes} MB.",
    # of a champion at work
    "served_few": "Version {version} has served {seen}; the watch waits for {least} requests.",
    "served_not_finite": "The prediction of version {version} is not a number on {count} of {impressions}.",
    "served_worse": "On {seen}, the log loss of version {version} is {change} than that of {rival} (at best {best},"
    " whenever one looks); allowed is {margin} higher.",
    "served_no_worse": "On {seen}, the log loss of version {version} is {change} than that of {rival}; allowed is"
    " {margin} higher, and more is not shown.",
    "promised": "Its {measure} is {now}; its evidence promised {promised}, and up to {limit} is allowed.",
    # of a canary
    "sample_ratio": "The split is broken: {canary} in the canary and {control} in its control, whose shares are equal;"
    " chance makes them so uneven at some look in {chance} of all canaries at most. No figure of it can be trusted.",
    "live_guardrail": "{figure}: {seen}. That is beyond what is allowed; chance alone raises this alarm at some look in"
    " {chance} of all canaries at most.",
    "live_guardrail_unsure": "{figure}: {seen}. That is beyond what is allowed, as far as is known by now: nothing is"
    " promoted meanwhile.",
    "no_traffic": "The canary has {canary} and its control {control}: without traffic nothing is promoted.",
    "live_worse": "{found} It is shown to be worse than is allowed.",
    "live_shown": "{found} It is shown to be {goal}.",
    "live_shown_early": "{found} It is shown to be {goal}, but has not run for long.",
    "live_not_yet_shown": "{found} It is not yet shown to be {goal}.",
    "want_of_evidence": "The canary ends without an answer. {found} It is not shown to be {goal}.",
    # what a promotion says beside
    "checks_passed": "All {count} data checks passed.",
    "auc": "AUC {now}{before}; calibration error {calibration}.",
}
"""By code; a code with a subject, ``check/volume``, has the sentence of its first part."""


@dataclass(frozen=True)
class Finding:
    """What one part of the evidence asks for, and why."""

    code: str
    word: Word
    facts: Mapping[str, str] = field(default_factory=dict)

    setting: str = ""
    """The limit that decides, where a surface can set one."""

    def __post_init__(self) -> None:
        assert self.code.partition("/")[0] in SENTENCES, self.code

    @property
    def sentence(self) -> str:
        """For people."""
        sentence = SENTENCES[self.code.partition("/")[0]].format_map(self.facts)
        return f"{sentence} Set by {self.setting}." if self.setting else sentence
