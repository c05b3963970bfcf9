"""Random effects against statsmodels and by hand; what cannot be combined says why."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from scipy import stats

from attngraft._core.errors import DataError, OutputError
from attngraft.cli.main import main
from attngraft.study.existing.judging import Terms, judge_numbers
from attngraft.study.judging.bootstrap import Resampled
from attngraft.study.judging.combine import combine, heterogeneity, random_effects, replicated, schema
from attngraft.study.judging.criterion import Criterion
from attngraft.study.judging.judge import Paired, judge
from attngraft.study.judging.results import Results, RunResult
from attngraft.study.reporting.forest import sentences, write_combined

EFFECTS, ERRORS = np.array([0.8, 0.1, 1.9, 0.6]), np.array([0.2, 0.3, 0.35, 0.25])


def study(seed: int, gain: float) -> Results:
    rng = np.random.default_rng(seed)
    base = rng.normal(40, 0.3, 5)
    arm = base + rng.normal(gain, 0.3, 5)
    return judge_numbers({"stock": dict(enumerate(base)), "eca@P5": dict(enumerate(arm))}, f"data-{seed}", Terms())


def test_random_effects_are_statsmodels() -> None:
    meta = pytest.importorskip("statsmodels.stats.meta_analysis", reason="needs statsmodels")
    expected = meta.combine_effects(EFFECTS, ERRORS**2, method_re="dl", use_t=True)
    mean, error, tau2, weights = random_effects(EFFECTS, ERRORS)
    assert tau2 == pytest.approx(expected.tau2)
    assert mean == pytest.approx(expected.mean_effect_re)
    assert error == pytest.approx(expected.sd_eff_w_re_hksj)
    assert weights / weights.sum() == pytest.approx(expected.weights_rel_re)
    assert heterogeneity(EFFECTS, ERRORS) == pytest.approx(expected.i2)


def test_equal_effects_have_no_spread_and_the_classic_error() -> None:
    mean, error, tau2, _ = random_effects(np.full(3, 0.5), np.full(3, 0.3))
    assert (mean, tau2) == (pytest.approx(0.5), 0)
    assert error == pytest.approx(0.3 / math.sqrt(3))  # Hartung and Knapp's alone would be 0


def test_a_combination_by_hand() -> None:
    studies = [(str(seed), study(seed, gain)) for seed, gain in ((0, 0.2), (1, 1.0), (2, 0.7))]
    found = combine(studies)
    arms = [one.arm("eca@P5") for _, one in studies]
    effects, errors = np.array([a.estimate.difference for a in arms]), np.array([a.estimate.error for a in arms])
    mean, error, tau2, weights = random_effects(effects, errors)
    reach = stats.t.ppf(0.975, 2) * error
    assert found.interval == pytest.approx((mean - reach, mean + reach))
    reach = stats.t.ppf(0.975, 1) * math.sqrt(tau2 + 1 / weights.sum())
    assert found.prediction == pytest.approx((mean - reach, mean + reach))
    one_sided = [stats.t.sf(a.estimate.difference / a.estimate.error, 4) for a in arms]
    assert [member.p for member in found.members] == pytest.approx(one_sided)
    assert found.replicated == replicated(one_sided, 0.025)
    assert combine(studies[:2]).prediction is None


def test_improvements_are_counted_at_the_error_of_better() -> None:
    """Two studies that are each undecided by the two-sided rule show no improvement together either."""
    studies = [(str(seed), study(seed, 0.7)) for seed in (0, 2)]
    p = [member.p for member in combine(studies).members]
    counts = [replicated(p, alpha) for alpha in (0.05, 0.025)]
    assert combine(studies).replicated == counts[1]
    held = [(name, _held(one)) for name, one in studies]
    assert combine(held).replicated == 0
    assert [member.p for member in combine(held).members] == p


def test_looks_are_allowed_for_and_interim_studies_show_nothing() -> None:
    """Of 15 pairs at once the p is under .025; what the verdict is made from, after looks, is .053."""
    studies = [(str(scale), _looked_at(scale)) for scale in (1.0, 1.5)]
    for _, one in studies:
        arm = one.arm("eca@P5")
        assert arm.estimate.p_value / 2 == pytest.approx(0.021)
        assert arm.verdict is not None
        assert arm.verdict.outcome == "undecided"
        assert arm.verdict.p_difference / 2 == pytest.approx(0.0534, abs=0.001)
    assert combine(studies).replicated == 0
    clear = [(str(scale), _looked_at(scale, p=2e-4)) for scale in (1.0, 1.5)]
    assert combine(clear).replicated == 2
    assert combine([(name, _with(one, outcome="interim")) for name, one in clear]).replicated == 0


def test_a_copy_of_a_study_is_the_same_study() -> None:
    """Folders in another home differ in what lies beside them, and a copy may have gone on."""
    one, two = (replace(it, setting=replace(it.setting, hash="4f2a")) for it in (study(0, 1), study(1, 1)))
    copy = replace(one, fingerprint="another", others=("other (plan 748c, 0 runs finished)",))
    longer = replace(copy, runs=(*copy.runs, RunResult("stock", 5, "finished", 40.0)))
    for again in (copy, longer):
        with pytest.raises(DataError, match="home2 is given twice, it has the runs of home"):
            combine([("home", one), ("home2", again)])
    assert len(combine([("home", one), ("home2", two)]).members) == 2  # the plan again, with runs of its own
    diverged = RunResult("stock", 9, "finished", 0.0)
    both = [(name, replace(it, runs=(*it.runs, diverged))) for name, it in (("home", one), ("home2", two))]
    assert len(combine(both).members) == 2


def _looked_at(scale: float, p: float = 0.021) -> Results:
    """Return a study of 15 pairs whose mean has this one-sided p, judged at looks 3 to 15; the last pairs show it."""
    shape = np.where(np.arange(15) % 2, 1.0, -1.0)
    shape = (shape - shape.mean()) / shape.std(ddof=1)
    gains = scale * (shape + stats.t.isf(p, 14) / math.sqrt(15))
    base = np.full(15, 40.0)
    values = [Resampled(one, np.repeat(one[:, None], 2, axis=1), 0) for one in (base + gains, base)]
    (verdict,) = judge(Criterion(0.5, max_seeds=15, first_look=3, seeds=3, arms=1), {"eca@P5": Paired(*values)})
    runs = {"stock": dict(enumerate(base)), "eca@P5": dict(enumerate(base + gains))}
    found = judge_numbers(runs, f"data-{scale}", Terms())
    return replace(found, arms=(replace(found.arms[0], verdict=verdict),))


def _with(results: Results, **fields: Any) -> Results:
    """Return results with other fields of the verdicts."""
    arms = tuple(replace(arm, verdict=replace(arm.verdict, **fields)) if arm.verdict else arm for arm in results.arms)
    return replace(results, arms=arms)


def _held(results: Results) -> Results:
    """Return results whose arms give no verdict, since runs may not have learned."""
    return _with(results, outcome="undecided", reason="it takes 5 seeds")


@pytest.mark.parametrize(
    ("p", "count"), [([0.2, 0.3], 0), ([0.01, 0.3], 1), ([0.01, 0.04], 2), ([0.02, 0.03, 0.06], 0)]
)
def test_replications_are_counted_by_partial_conjunction(p: list[float], count: int) -> None:
    assert replicated(p, 0.05) == count


def test_what_cannot_be_combined_says_why() -> None:
    one, two = study(0, 1), study(1, 1)
    with pytest.raises(DataError, match="two studies or more, got 1"):
        combine([("one", one)])
    with pytest.raises(DataError, match="again is given twice"):
        combine([("one", one), ("two", two), ("again", one)])
    with pytest.raises(DataError, match="two has no arm 'eca@P4'; did you mean eca@P5"):
        combine([("one", replace(one, arms=(replace(one.arms[0], name="eca@P4"),))), ("two", two)], "eca@P4")
    with pytest.raises(DataError, match="have no arm in common"):
        combine([("one", replace(one, arms=())), ("two", two)])
    with pytest.raises(DataError, match="judged by AP and AP50"):
        combine([("one", one), ("two", replace(two, setting=replace(two.setting, metric="AP50")))])
    wide = replace(two, setting=replace(two.setting, alpha=0.2))
    for order in ([("one", one), ("two", wide)], [("two", wide), ("one", one)]):
        with pytest.raises(DataError, match="judged at alpha 0.05 and 0.2, and a combination has one level"):
            combine(order)
    both = [(name, replace(of, setting=replace(of.setting, alpha=0.2))) for name, of in (("one", one), ("two", two))]
    assert combine(both).level == 0.8
    single = judge_numbers({"stock": {0: 1.0}, "eca@P5": {0: 2.0}}, "x", Terms())
    with pytest.raises(DataError, match="no standard error of eca@P5 from 1 pairs"):
        combine([("one", one), ("two", single)])


def test_the_report_of_a_combination(tmp_path: Path) -> None:
    jsonschema = pytest.importorskip("jsonschema")
    studies = [(f"<b>{seed}", study(seed, 1)) for seed in range(3)]
    page = write_combined(combine(studies), tmp_path)
    text = page.read_text()
    assert "<b>" not in text
    assert 'id="forest"' in text
    assert sentences(combine(studies))[0] in (tmp_path / "combined.md").read_text()
    jsonschema.validate(json.loads((tmp_path / "combined.json").read_text()), schema())
    assert write_combined(combine(studies), tmp_path) == page, "its own files are written again"
    (tmp_path / "combined.json").write_text('{"mine": 1}')
    with pytest.raises(OutputError, match="holds something else than a combination"):
        write_combined(combine(studies), tmp_path)


def test_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for seed in range(2):
        study(seed, 1).save(tmp_path / f"judged-{seed}")
    done = CliRunner().invoke(main, ["study", "combine", "judged-0", "judged-1"])
    assert done.exit_code == 0, done.output
    assert "Over 2 studies, eca@P5 changes AP by +" in done.output
    assert Path("combined/combined.html").is_file()
    done = CliRunner().invoke(main, ["study", "combine", "judged-0", "judged-1", "judged-0"])
    assert done.exit_code == 1
    assert "is given twice" in done.output
    done = CliRunner().invoke(main, ["study", "combine", "judged-0", "nowhere"])
    assert done.exit_code == 1
    assert "nowhere holds neither a study nor a judgement" in done.output
