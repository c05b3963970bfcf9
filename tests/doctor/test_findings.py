"""The machinery under the checks: order, exceptions, random state and records."""

from __future__ import annotations

import json

import pytest
import torch

import attngraft
import attngraft.doctor
from attngraft._core.errors import OptionError
from attngraft.doctor import Check, Outcome, check, diagnose, examine, failed, passed, skipped, warned
from attngraft.doctor.findings import Wrong, broken, expected


@check(remedy="feed it")
def alive(animal: dict[str, float]) -> Outcome:
    """It breathes.

    Or so it seems.
    """
    return passed("breathes") if animal["breath"] else failed("does not breathe")


@check(remedy="call a vet", vital=True)
def there(animal: dict[str, float]) -> Outcome:
    """It is there."""
    if not animal:
        raise LookupError("nobody\nis here")
    return passed("there")


@check(remedy="rest")
def draws(animal: dict[str, float]) -> Outcome:
    """It draws a number."""
    return warned(f"{torch.rand(1).item():.6f}", "your own remedy")


@check(remedy="wait")
def later(animal: dict[str, float]) -> Outcome:
    """It is looked at later."""
    return skipped("not today")


def test_a_check_is_named_after_its_function() -> None:
    assert (alive.name, alive.promise, alive.remedy, alive.vital) == ("alive", "It breathes", "feed it", False)


def test_findings_come_in_order_with_the_way_out_where_it_is_needed() -> None:
    found = list(examine({"breath": 0.0}, [there, alive, draws, later]))
    rows = [(f.name, f.status, f.remedy) for f in found]
    assert rows == [
        ("there", "pass", ""),
        ("alive", "fail", "feed it"),
        ("draws", "warn", "your own remedy"),
        ("later", "skip", ""),
    ]
    assert all(f.seconds >= 0 for f in found)


def test_what_a_subject_raises_is_a_finding_in_one_line() -> None:
    (finding,) = examine({}, [alive])
    assert (finding.status, finding.detail) == ("fail", "KeyError: 'breath'")


def test_nothing_is_looked_at_after_a_vital_check_failed() -> None:
    first, second = examine({}, [there, alive])
    assert (first.status, first.detail) == ("fail", "LookupError: nobody")
    assert (second.status, second.detail) == ("skip", "needs 'there', which failed")


@check(remedy="hold it by the collar")
def walks(animal: dict[str, float]) -> Outcome:
    """It walks."""
    with expected():
        animal["legs"] / animal["none"]
    return passed("walks")


@check(remedy="wait", needs=("walks", "alive"))
def runs(animal: dict[str, float]) -> Outcome:
    """It runs."""
    return passed("runs")


def test_an_error_that_a_check_expects_has_its_remedy() -> None:
    (finding,) = examine({"legs": 4.0, "none": 0.0}, [walks])
    assert (finding.status, finding.remedy) == ("fail", "hold it by the collar")
    assert finding.detail == "ZeroDivisionError: float division by zero"


def test_an_error_of_ours_says_itself_what_to_do() -> None:
    def raises(animal: object) -> Outcome:
        """It raises."""
        raise OptionError("give it a bone")

    (finding,) = examine({}, [check(remedy="sleep")(raises)])
    assert (finding.detail, finding.remedy) == ("OptionError: give it a bone", "")


def test_what_needs_a_check_that_failed_is_skipped_and_the_rest_is_not() -> None:
    found = list(examine({"breath": 0.0, "legs": 4.0, "none": 1.0}, [walks, alive, runs, draws]))
    assert [f.status for f in found] == ["pass", "fail", "skip", "warn"]
    assert found[2].detail == "needs 'alive', which failed"
    assert next(examine({"breath": 0.0}, [runs])).status == "pass", "what was not looked at has not failed"


def test_an_error_that_was_seen_is_named_once() -> None:
    def asks(number: int) -> Check[dict[int, float]]:
        def ask(animal: dict[int, float]) -> Outcome:
            """It has a tail."""
            return passed(str(animal[number]))

        return check(remedy="look again")(ask)

    first, second, third = examine({}, [asks(1), asks(2), alive])  # type: ignore[list-item]
    assert (first.status, first.detail) == ("fail", "KeyError: 1")
    assert (second.status, second.detail, second.remedy) == ("skip", "same as 'ask': fix that first", "")
    assert third.status == "fail", "another error"


def test_trials_that_fail_alike_are_named_together() -> None:
    errors = {"8": ValueError("8 is odd"), "9": ValueError("9 is odd"), "10": Wrong("limps")}
    outcome = broken(errors, " km")
    assert outcome.detail == "8, 9 km: ValueError: 8 is odd; 10 km: limps"
    assert outcome.errors == ("ValueError: # is odd", "")


def test_checks_draw_the_same_numbers_and_leave_the_callers_alone() -> None:
    state = torch.get_rng_state()
    one, two = examine({}, [draws, draws])
    assert one.detail == two.detail
    assert torch.equal(torch.get_rng_state(), state)


def test_a_diagnosis_is_json_and_text() -> None:
    diagnosis = diagnose("dog", {"breath": 0.0}, [there, alive])
    stored = json.loads(json.dumps(diagnosis.to_dict(), allow_nan=False))
    assert (stored["schema"], stored["healthy"], stored["subject"]) == ("attngraft.doctor/1", False, "dog")
    assert stored["findings"][1]["remedy"] == "feed it"
    assert stored["environment"]["versions"]["torch"] == torch.__version__
    assert "fail  alive" in str(diagnosis)
    assert "does not breathe -> feed it" in str(diagnosis)
    assert diagnose("dog", {"breath": 1.0}, [there, alive, draws, later]).healthy


def test_a_diagnosis_satisfies_its_schema() -> None:
    jsonschema = pytest.importorskip("jsonschema")
    described = attngraft.doctor.schema()
    jsonschema.Draft202012Validator.check_schema(described)
    found = diagnose("dog", {"breath": 0.0}, [there, alive, draws, later]).to_dict()
    stored = json.loads(json.dumps(found, allow_nan=False))
    assert {finding["status"] for finding in stored["findings"]} == {"pass", "fail", "warn", "skip"}
    jsonschema.validate(stored, described)
    for broken_part in ({"healthy": 1}, {"more": 1}, {"findings": [{**stored["findings"][0], "status": "well"}]}):
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate({**stored, **broken_part}, described)
