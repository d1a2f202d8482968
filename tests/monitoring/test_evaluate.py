"""Champion against challenger on a small world: whatever comes of training, there is evidence and a verdict."""

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import numpy as np
import polars as pl
import pytest

from models import metrics
from models.frames import Frame, parted
from models.learning.learner import fine_tune
from models.learning.model import Model
from monitoring.checks.limits import Limits
from monitoring.evaluation import drift
from monitoring.evaluation.compare import paired
from monitoring.evaluation.cost import Cost
from monitoring.evaluation.evaluate import Trained, evaluate, forgetting, remeasure
from monitoring.evaluation.evidence import Evidence, Hypothesis
from monitoring.evaluation.history import History, Recalled, Reference
from monitoring.evaluation.process_record import ProcessRecord
from monitoring.evaluation.slice_columns import head
from monitoring.evaluation.terms import Judging, Terms
from monitoring.evaluation.window import Champion, Window, check, new_ids
from monitoring.gate.decide import decide
from monitoring.gate.policy import Policy
from monitoring.records.evidence_store import canonical
from monitoring.statistics.error_control import PastTests
from monitoring.statistics.sequential import Moments
from tests.worlds.designs import but, design_of
from tests.worlds.examples import LAYOUT, clicks, no_time

START = datetime(2026, 3, 1, tzinfo=UTC)
DESIGN = design_of(hidden=(8,), batch_requests=64, time_budget_s=None)
COST = Cost(1.0, None, 1_000, None, candidates=50, score_p99_ms=2.0)

KNOWN = Recalled(
    process=ProcessRecord().add(Moments(2_000, 0.004, 0.02), loss=0.01, judged_to=START),
    tests=PastTests(3, promoted=(2,)),
    baseline="5",
)
"""What is known of a surface at work."""


def frame_of(requests: int, seed: int, start: datetime = START) -> Frame:
    """A request a second, the first a second after ``start``."""
    examples = clicks(requests, seed=seed)
    examples = replace(examples, time=start.timestamp() + 1 + examples.time)
    rows = len(examples)
    table = pl.DataFrame(
        {
            "impression_id": [f"i{row}" for row in range(rows)],
            "request_id": [f"r{code}" for code in examples.request],
            "user_id": [f"u{user}" for user in examples.ids[:, 1]],
            "item_id": [f"a{row % 40}" for row in range(rows)],  # none twice in a request
            "position": np.arange(rows) % 5,
            "shown_at": [datetime.fromtimestamp(float(second), UTC) for second in examples.time],
            "context": [f'{{"place": "{place}"}}' for place in examples.ids[:, 2]],
            "label": examples.label,
            "schema_version": [LAYOUT.schema_version] * rows,
        }
    )
    return Frame(table, examples, without_row=3)


def window_of(judging: Judging, requests: int = 500, seed: int = 2, fairness: str | None = None) -> Window:
    """Of 500 s; with ``tail`` its last fifth judges."""
    end = START + timedelta(seconds=requests)
    split = end if judging == "progressive" else START + timedelta(seconds=requests * 0.8)
    return Window(
        update_id=7,
        start=START,
        split=split,
        end=end,
        as_of=end + timedelta(minutes=10),
        frame=parted(frame_of(requests, seed), split.timestamp()),
        terms=Terms(
            judging, LAYOUT.dense, LAYOUT.schema_version, {"place": "place"}, Limits(), margin=0.01, fairness=fairness
        ),
    )


@pytest.fixture(scope="module")
def champion() -> Champion:
    model, _ = fine_tune(Model.new(LAYOUT, DESIGN, 0), clicks(1_000, seed=1), seed=0, clock=no_time)
    return Champion("7", model)


def trained_on(window: Window, model: Model, hypothesis: Hypothesis = "not_worse") -> Trained:
    """The challenger that a model becomes on the window's training part."""
    tuned, learned = fine_tune(model, window.training_part.examples, seed=0, clock=no_time)
    return Trained(tuned, learned, hypothesis, COST)


def broken(model: Model) -> Model:
    """The model with a weight that is no number."""
    copy = model.copy()
    next(iter(copy.network.parameters())).data.fill_(float("nan"))
    return copy


def measured(
    window: Window, champion: Champion | None, challenger: Trained | None, history: History | None = None
) -> Evidence:
    """Checked and evaluated, as an update does."""
    history = history or History()
    return evaluate(check(window, champion, history), champion, challenger, history)


def at_work(*references: Reference, earlier: Frame | None = None) -> History:
    return History(KNOWN, references=references, earlier=earlier)


def test_all_of_a_window_judges_as_it_was_predicted_before_it_was_trained_on(champion: Champion) -> None:
    window = window_of("progressive")
    challenger = trained_on(window, champion.model)
    evidence = measured(window, champion, challenger)
    compared, examples = evidence.comparison, window.frame.examples
    assert compared is not None
    assert (evidence.judged, evidence.hypothesis, evidence.champion) == ("progressive", "not_worse", "7")
    assert (compared.impressions, compared.requests, compared.rival) == (2_500, 500, "champion")
    served = champion.model.score(examples)
    assert compared.gain == paired(examples.label, examples.request, served, challenger.learned.predicted)
    assert evidence.prequential is not None
    assert evidence.prequential.log_loss == pytest.approx(metrics.log_loss(served, examples.label))
    assert evidence.not_finite == 0
    facts = evidence.window
    assert (facts.start, facts.end, facts.impressions, facts.without_row) == (window.start, window.end, 2_500, 3)
    assert facts.label_rate == pytest.approx(examples.label.mean())
    assert facts.freshness_s == 600


def test_the_tail_of_a_window_judges_by_weights_that_were_not_trained_on_it(champion: Champion) -> None:
    window = window_of("tail")
    challenger = trained_on(window, champion.model)
    evidence = measured(window, champion, challenger)
    assert evidence.comparison is not None
    assert (evidence.judged, evidence.comparison.impressions) == ("tail", 500)
    tail = window.frame.examples[2_000:]
    assert evidence.comparison.gain == paired(
        tail.label, tail.request, champion.model.score(tail), challenger.model.score(tail)
    )
    assert evidence.training is not None
    assert (evidence.training.impressions, evidence.training.given) == (2_000, 2_000)
    assert evidence.in_sample is None, "the weights were not trained on what judges"
    assert evidence.window.freshness_s == 700, "from the end of the training part"


def test_the_weights_that_would_go_live_score_the_window_once_more(champion: Champion) -> None:
    window = window_of("progressive")
    challenger = trained_on(window, champion.model)
    found, examples = measured(window, champion, challenger).in_sample, window.frame.examples
    assert found is not None
    final, served = challenger.model.score(examples), champion.model.score(examples)
    assert found.gain == paired(examples.label, examples.request, served, final)
    assert found.log_loss == pytest.approx(metrics.log_loss(final, examples.label))
    assert found.champion_log_loss == pytest.approx(metrics.log_loss(served, examples.label))


def test_slices_are_the_context_and_who_and_what_is_new(champion: Champion) -> None:
    window = window_of("progressive")
    compared = measured(window, champion, trained_on(window, champion.model)).comparison
    assert compared is not None
    kinds = {part.column: part.kind for part in compared.slices}
    assert kinds == {"place": "context", "reader": "user", "item": "item", "item's place": "item"}
    assert {part.value for part in compared.slices if part.column == "place"} == {"1", "2", "3"}
    assert compared.fairness == ()


@pytest.mark.parametrize(("name", "values"), [("place", 3), ("user_id", 21)])
def test_values_that_must_be_treated_alike_are_of_the_context_or_a_column(
    name: str, values: int, champion: Champion
) -> None:
    window = window_of("progressive", fairness=name)
    compared = measured(window, champion, trained_on(window, champion.model)).comparison
    assert compared is not None
    assert [row.attribute for row in compared.fairness] == [name] * values


def test_of_a_window_that_nothing_was_trained_on_there_is_what_its_checks_found(champion: Champion) -> None:
    window = window_of("progressive")
    evidence = measured(window, champion, None)
    assert evidence.checks == check(window, champion, History()).found
    assert evidence.prequential is not None
    assert (evidence.comparison, evidence.training, evidence.cost, evidence.hypothesis) == (None, None, None, None)
    assert evidence.window.freshness_s is None


def test_an_empty_window_has_evidence_too(champion: Champion) -> None:
    window = window_of("progressive", requests=500)
    empty = replace(window, frame=window.frame[:0])
    evidence = measured(empty, champion, None)
    assert (evidence.window.impressions, evidence.window.label_rate) == (0, None)
    assert [found.name for found in evidence.failed_checks] == ["volume"]


def test_a_routine_challenger_is_added_to_the_process_record(champion: Champion) -> None:
    window = window_of("progressive")
    before = Reference("a day ago", "5", fine_tune(champion.model, clicks(50, seed=9), seed=0, clock=no_time)[0])
    evidence = measured(window, champion, trained_on(window, champion.model), at_work(before))
    assert evidence.comparison is not None
    moments = evidence.comparison.gain.moments
    (reference,) = evidence.references
    assert moments is not None
    assert reference.gain.moments is not None
    assert (reference.name, reference.version) == ("a day ago", "5")
    assert evidence.process == KNOWN.process
    of_before = reference.gain.moments
    assert evidence.process_after == KNOWN.process.add(
        moments, loss=0.01, judged_to=window.end, against={"5": of_before}, over_baseline=of_before
    )
    assert (evidence.baseline, evidence.tests) == ("5", None)


def test_a_new_design_is_one_more_test_and_not_part_of_the_process(champion: Champion) -> None:
    window = window_of("progressive")
    evidence = measured(window, champion, trained_on(window, champion.model, "better"), at_work())
    assert evidence.tests == KNOWN.tests, "before this one"
    assert evidence.process == evidence.process_after == KNOWN.process


def test_a_first_model_is_compared_with_the_base_rate_alone() -> None:
    window = window_of("progressive")
    first = trained_on(window, Model.new(LAYOUT, DESIGN, 0))
    evidence = measured(window, None, first, History(earlier=frame_of(100, seed=5)))
    assert evidence.comparison is not None
    assert evidence.comparison.rival == "base_rate"
    parts = (evidence.champion, evidence.prequential, evidence.process, evidence.in_sample, evidence.forgetting)
    assert parts == (None,) * 5
    assert evidence.references == ()


def test_forgetting_is_measured_on_an_older_window(champion: Champion) -> None:
    window, earlier = window_of("progressive"), frame_of(100, seed=5, start=START - timedelta(days=1))
    challenger = trained_on(window, champion.model)
    found = measured(window, champion, challenger, at_work(earlier=earlier)).forgetting
    assert found == forgetting(earlier, champion.model, challenger.model)
    assert found.impressions == 500
    assert (found.start, found.end) == (earlier.table["shown_at"].min(), earlier.table["shown_at"].max())
    before = champion.model.score(earlier.examples)
    assert found.champion_log_loss == pytest.approx(metrics.log_loss(before, earlier.examples.label))
    assert measured(window, champion, challenger, at_work(earlier=earlier[:0])).forgetting is None


def test_an_order_is_valued_where_propensities_were_logged(champion: Champion) -> None:
    window = window_of("tail")
    challenger = trained_on(window, champion.model)
    assert measured(window, champion, challenger).ranking_value is None
    logged = replace(window, propensity=np.full(len(window.frame), 0.2))
    value = measured(logged, champion, challenger).ranking_value
    assert value is not None
    assert value.challenger is not None
    assert (value.challenger.impressions, value.challenger.requests) == (500, 100), "of the part that judges"


def test_drift_is_measured_from_what_the_champion_was_trained_on_and_from_earlier_days(champion: Champion) -> None:
    window = window_of("progressive")
    history = History(KNOWN, trained_on=frame_of(300, seed=5), season=frame_of(200, seed=6))
    evidence = measured(window, champion, trained_on(window, champion.model), history)
    assert evidence.drift is not None
    assert evidence.season_drift is not None
    assert {column.column for column in evidence.drift.columns} == {*LAYOUT.dense, "place", "prediction", "label"}
    rows = (evidence.drift.reference_rows, evidence.season_drift.reference_rows, evidence.drift.current_rows)
    assert rows == (1_500, 1_000, 2_000), "a sample at most"
    assert evidence.drift.against == "what the champion was trained on"
    assert evidence.season_drift.against == "the same hours of earlier days"


def test_what_is_counted_from_the_log_only_informs(champion: Champion) -> None:
    window = window_of("progressive")
    window = replace(window, terms=replace(window.terms, numbers=LAYOUT.dense[-1:]))
    six_windows = replace(KNOWN, needed={"season_drift/prediction": (0.1,) * 6})
    for known, predicted in ((KNOWN, set()), (six_windows, {"prediction"})):
        found = measured(window, champion, None, History(known, season=frame_of(200, seed=6))).season_drift
        assert found is not None
        deciding = {column.column for column in found.columns if column.decides}
        assert deciding == {"place", "label", LAYOUT.dense[-1], *predicted}, "what a young model predicts moves"


def test_a_season_alone_is_enough_to_drift_from(champion: Champion) -> None:
    window = window_of("progressive")
    evidence = measured(window, champion, None, History(KNOWN, season=frame_of(200, seed=6)))
    assert evidence.drift is None
    assert evidence.season_drift is not None


def test_what_past_windows_had_of_a_column_is_its_limit_against_the_same_reference(champion: Champion) -> None:
    window, past = window_of("progressive"), (0.5, 0.6, 0.5, 0.7, 0.5, 0.6)
    known = replace(KNOWN, needed={"season_drift/place": past, "drift/label": past})
    history = History(known, trained_on=frame_of(300, seed=5), season=frame_of(200, seed=6))
    evidence = measured(window, champion, None, history)
    assert evidence.drift is not None
    assert evidence.season_drift is not None
    wide = [
        {column.column for column in found.columns if column.limit - column.by_chance > 0.9}
        for found in (evidence.drift, evidence.season_drift)
    ]
    assert wide == [{"label"}, {"place"}]


def test_a_new_value_of_the_context_on_a_tenth_of_the_rows_is_held_and_named(champion: Champion) -> None:
    def by_many(frame: Frame) -> Frame:
        """Each request of a user of its own."""
        return replace(frame, table=frame.table.with_columns(user_id="request_id"))

    window = window_of("progressive")
    window = replace(window, frame=by_many(window.frame))
    context = pl.when(pl.int_range(pl.len()) % 50 < 5).then(pl.lit('{"place": "app 9"}')).otherwise("context")
    frame = replace(window.frame, table=window.frame.table.with_columns(context.alias("context")))
    challenger = trained_on(window, champion.model)
    history = History(KNOWN, trained_on=by_many(frame_of(300, seed=5)), season=by_many(frame_of(200, seed=6)))
    assert not {"drift", "season_drift"} & set(decide(Policy(), measured(window, champion, challenger, history)).codes)
    verdict = decide(Policy(), measured(replace(window, frame=frame), champion, challenger, history))
    assert "drift" in verdict.codes
    assert "season_drift" not in verdict.codes, "in the first week a weekend moves a column by as much"
    assert verdict.verdict == "hold"
    (named,) = (finding for finding in verdict.findings if finding.code == "drift")
    assert named.facts["columns"].startswith("place (PSI ")


def test_a_teams_own_numbers_come_before_the_features_that_matter_most(
    champion: Champion, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(drift, "MOST_FEATURES", 2)
    window, history = window_of("progressive"), History(KNOWN, season=frame_of(200, seed=6))

    def features(*numbers: str) -> set[str]:
        terms = replace(window.terms, numbers=numbers)
        found = measured(replace(window, terms=terms), champion, None, history).season_drift
        assert found is not None
        return {column.column for column in found.columns} - {"place", "prediction", "label"}

    matter = features()
    own = next(name for name in LAYOUT.dense if name not in matter)
    chosen = features(own)
    assert len(matter) == len(chosen) == 2
    assert own in chosen


@pytest.mark.parametrize("judging", ["progressive", "tail"])
def test_a_challenger_that_broke_while_it_was_trained_is_rejected(judging: Judging, champion: Champion) -> None:
    window = window_of(judging)
    challenger = trained_on(window, champion.model)
    predicted = challenger.learned.predicted
    half = np.where(np.arange(len(predicted)) < 1_000, predicted, np.nan)
    lost = Trained(broken(challenger.model), replace(challenger.learned, predicted=half), "not_worse", COST)
    evidence = measured(window, champion, lost, at_work())
    verdict = decide(Policy(), evidence)
    assert (verdict.verdict, verdict.codes[0]) == ("reject", "not_finite")
    assert evidence.process_after is None, "what broke is not part of the process"


@pytest.mark.parametrize("first", [True, False])
def test_weights_that_broke_with_the_last_batch_are_rejected_although_each_prediction_before_was_sound(
    first: bool, champion: Champion
) -> None:
    window = window_of("progressive")
    challenger = trained_on(window, champion.model)
    lost = replace(challenger, model=broken(challenger.model))
    verdict = decide(Policy(), measured(window, None if first else champion, lost))
    assert (verdict.verdict, verdict.codes[0]) == ("reject", "weights_not_finite")


def test_what_training_did_not_get_to_is_not_judged(champion: Champion) -> None:
    window, ticks = window_of("progressive"), iter(range(1_000))
    hurried = champion.model.copy()
    hurried.design = but(DESIGN, time_budget_s=4.0)
    model, learned = fine_tune(hurried, window.frame.examples, seed=0, clock=lambda: float(next(ticks)))
    assert learned.stopped == "time"
    assert 0 < learned.reached < len(window.frame)
    assert np.isfinite(learned.predicted).sum() == learned.reached
    evidence = measured(window, champion, Trained(model, learned, "not_worse", COST), at_work())
    assert evidence.comparison is not None
    assert evidence.comparison.impressions == learned.reached
    assert evidence.training is not None
    assert (evidence.training.stopped, evidence.training.given) == ("time", len(window.frame))
    judged_to = datetime.fromtimestamp(float(window.frame.examples.time[learned.reached - 1]), UTC)
    assert evidence.process_after is not None
    assert evidence.process_after.judged_to == judged_to < window.end


def test_a_champion_of_before_that_predicts_no_number_is_left_out(champion: Champion) -> None:
    window = window_of("progressive")
    references = Reference("a day ago", "5", broken(champion.model)), Reference("a week ago", "3", champion.model)
    evidence = measured(window, champion, trained_on(window, champion.model), at_work(*references))
    assert [found.version for found in evidence.references] == ["3"]
    decide(Policy(), evidence)


def test_both_are_measured_on_impressions_that_neither_was_trained_on(champion: Champion) -> None:
    window = window_of("progressive")
    challenger = trained_on(window, champion.model).model
    fresh = window_of("progressive", seed=8)
    evidence = remeasure(fresh, champion, challenger)
    examples = fresh.frame.examples
    assert (evidence.judged, evidence.champion, evidence.hypothesis) == ("fresh", "7", None)
    assert evidence.comparison is not None
    assert evidence.comparison.gain == paired(
        examples.label, examples.request, champion.model.score(examples), challenger.score(examples)
    )
    assert evidence.prequential is not None
    alone = remeasure(fresh, None, challenger)
    assert alone.comparison is not None
    assert (alone.comparison.rival, alone.prequential, alone.champion) == ("base_rate", None, None)


def test_the_same_window_in_another_order_has_the_same_head() -> None:
    items = pl.Series("item_id", [f"a{row % 40}" for row in range(400)])
    heads = {
        frozenset(shuffled.filter(pl.Series(head(shuffled))))
        for shuffled in (items.shuffle(seed=seed) for seed in range(5))
    }
    assert len(heads) == 1
    assert len(next(iter(heads))) == 8


@pytest.mark.parametrize("judging", ["progressive", "tail"])
def test_the_same_challenger_gives_the_same_evidence_and_it_is_read_back_as_it_was(
    judging: Judging, champion: Champion
) -> None:
    window, references = window_of(judging), [Reference("a week ago", "3", champion.model)]
    challenger, earlier = trained_on(window, champion.model), frame_of(100, seed=5)
    first, second = (measured(window, champion, challenger, at_work(*references, earlier=earlier)) for _ in range(2))
    assert first == second
    assert Evidence.from_json(json.loads(canonical(first.as_json()))) == first


def test_items_of_a_window_that_was_held_are_new_in_the_part_in_which_they_came() -> None:
    """Else each hour for which a person is waited for would have more that is new, and hold the next."""
    unknown = Model.new(LAYOUT, DESIGN, 0)  # has admitted nothing
    examples = frame_of(3600, seed=4).examples
    shares = {
        hours: float(np.mean(new_ids(examples, unknown, timedelta(hours=hours))["items"])) for hours in (1.0, 0.25)
    }
    assert shares[1.0] == 1.0
    assert shares[0.25] < 0.5
    assert new_ids(examples, unknown)["items"].all()
    assert not new_ids(examples[:0], unknown, timedelta(hours=1)).get("items", np.zeros(0)).any()
