"""The machinery under the checks: order, exceptions, random state, records; and how a subject is found."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import nn

import attngraft.doctor
from attngraft._core.errors import OptionError, UnknownNameError
from attngraft.doctor import Check, Outcome, check, diagnose, examine, failed, passed, skipped, subject, warned
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


MODULES = "from torch import nn\nfrom torch.nn import Conv2d\nclass Other: pass\nclass Mina(nn.Module): pass\n"


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


class TestSubject:
    @pytest.fixture
    def folder(self, tmp_path: Path) -> Iterator[Path]:
        (tmp_path / "neighbour_of_mine.py").write_text("GAIN = 2\n")
        (tmp_path / "mechanism_of_mine.py").write_text(
            "from neighbour_of_mine import GAIN\nfrom torch import nn\n"
            "class Mine(nn.Module):\n    def __init__(self, channels, *, heads=1):\n"
            "        super().__init__()\n        self.heads = heads * GAIN\n"
        )
        yield tmp_path
        for name in ("neighbour_of_mine", "mechanism_of_mine"):
            sys.modules.pop(name, None)

    def test_a_registry_name_is_fitted_to_the_width(self) -> None:
        assert subject("se", channels=8).fresh().reduction == 8
        assert subject("SE", channels=32, options={"reduction": 4}).fresh().reduction == 4
        assert subject("se").fresh(256).channels == 256

    def test_a_class_in_a_file_can_import_its_neighbours(self, folder: Path) -> None:
        found = subject(f"{folder}/mechanism_of_mine.py:Mine", options={"heads": 3})
        assert found.fresh().heads == 6
        assert found.folder == folder
        assert found.cls.__module__ == "mechanism_of_mine"
        assert str(folder) not in sys.path
        assert subject(f"{folder}/mechanism_of_mine.py:Mine").cls is found.cls

    def test_options_are_those_of_the_class(self, folder: Path) -> None:
        with pytest.raises(UnknownNameError, match=r"no option of Mine is called 'head'; did you mean heads\?"):
            subject(f"{folder}/mechanism_of_mine.py:Mine", options={"head": 3})

        class TakesAny(nn.Identity):
            def __init__(self, channels: int, **rest: int) -> None:
                super().__init__()

        assert subject(TakesAny, options={"anything": 1}).fresh(8)

    def test_weights_are_shaken_off_their_start(self) -> None:
        found = subject(nn.BatchNorm2d)
        assert torch.equal(found.fresh().weight, torch.ones(64))
        assert not torch.equal(found.perturbed().weight, torch.ones(64))

    @pytest.mark.parametrize(
        ("text", "name", "error", "message"),
        [
            ("x = 1", "mine.py:Mine", UnknownNameError, "no module class in mine.py is called 'Mine'"),
            (MODULES, "mine.py:Mine", UnknownNameError, r"did you mean Mina\?"),
            (MODULES, "mine.py:Other", UnknownNameError, "'Other'; there are: Mina$"),
            (MODULES, "mine.py", OptionError, "a file and no class; say which, as in mine.py:NAME; there are: Mina$"),
            ("class Mine: pass", "mine.py:Mine", UnknownNameError, "no module class in mine.py .*; there is none$"),
            ("1 / 0", "mine.py:Mine", OptionError, "cannot be imported: ZeroDivisionError.*run it alone"),
            ("x = ", "mine.py:Mine", OptionError, "cannot be imported: SyntaxError"),
            ("", "none.py:Mine", OptionError, "none.py, which is no Python file; check the path"),
            ("", "json.py:Mine", OptionError, "json.py cannot be imported as 'json', which is taken.*rename"),
            ("", "my-file.py:Mine", OptionError, "'my-file', which is taken or not a name"),
            ("", "ecax", UnknownNameError, r"did you mean eca\?"),
        ],
    )
    def test_what_cannot_be_found_is_said(
        self,
        text: str,
        name: str,
        error: type[Exception],
        message: str,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        monkeypatch.chdir(tmp_path)
        (tmp_path / "mine.py").write_text(text)
        monkeypatch.delitem(sys.modules, "mine", raising=False)
        with pytest.raises(error, match=message):
            subject(name)


def test_the_doctor_imports_no_detector_and_no_runtime() -> None:
    code = "import sys, attngraft.doctor; print(*sorted({name.partition('.')[0] for name in sys.modules}))"
    source = Path(attngraft.doctor.__file__).parents[2]
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=source)
    assert not {"ultralytics", "onnx", "onnxruntime", "openvino", "cv2", "sympy"} & set(ran.stdout.split())
