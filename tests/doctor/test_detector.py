"""Whole detectors: a healthy one passes every row, and each way to break one is caught by its row."""

from __future__ import annotations

import copyreg
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner

import attngraft
from attngraft._core import plugins
from attngraft._core.errors import OptionError, UnknownNameError
from attngraft._core.registry import unregister
from attngraft.cli import main
from attngraft.doctor import Finding, examine
from attngraft.doctor.detector.checklist import DETECTOR_CHECKS
from attngraft.doctor.detector.subject import DetectorSubject
from attngraft.yolo.model import quiet

MICRO = "attngraft-micro.yaml"
CHECKS = {item.name: item for item in DETECTOR_CHECKS}
BROKEN = """
import attngraft, torch
from torch import nn
from torch.nn import functional as F

class Plain(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 1)

@attngraft.register
class FixedTable(Plain):
    def __init__(self, channels):
        super().__init__(channels)
        self.table = nn.Parameter(torch.zeros(channels, 14, 14))
    def forward(self, x):
        return self.conv(x) + self.table

@attngraft.register
class NanSmall(Plain):
    def forward(self, x):
        off = x - x.mean((2, 3), keepdim=True)
        return x * self.conv(off.square().sum((2, 3), keepdim=True) / (x.shape[2] * x.shape[3] - 1)).sigmoid()

@attngraft.register
class AllPairs(Plain):
    def forward(self, x):
        q = self.conv(x).flatten(2).unflatten(1, (4, -1)).transpose(2, 3)  # (B, 4, N, C / 4)
        y = F.scaled_dot_product_attention(q, q, q)
        return y.transpose(2, 3).flatten(1, 2).view_as(x)

@attngraft.register
class InPlace(Plain):
    def forward(self, x):
        with torch.no_grad():
            x += 0.1
        return self.conv(x)

@attngraft.register
class MixesBatch(Plain):
    def forward(self, x):
        return self.conv(x) * x.softmax(0)

@attngraft.register
class PoolsUp(Plain):
    def forward(self, x):
        return F.adaptive_avg_pool2d(F.adaptive_avg_pool2d(self.conv(x), 3), x.shape[2:])

@attngraft.register
class Detached(Plain):
    def forward(self, x):
        return self.conv(x).detach() + x

@attngraft.register
class Overflows(Plain):
    def forward(self, x):
        return self.conv(x * 1e5) * 1e-5

@attngraft.register
class Explodes(Plain):
    def forward(self, x):
        return x / 0.0

@attngraft.register
class KeepsItsOutput(Plain):
    def forward(self, x):
        self.last = self.conv(x)
        return self.last

@attngraft.register
class Noisy(Plain):
    def forward(self, x):
        return self.conv(x) + 0.1 * torch.rand_like(x)
"""


@pytest.fixture(scope="module")
def broken(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    file = tmp_path_factory.mktemp("broken") / "broken_of_a_test.py"
    file.write_text(BROKEN)
    before = set(attngraft.names())
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv(plugins.VARIABLE, raising=False)
        module = attngraft.load_plugin(file)
        yield
        patch.delenv(plugins.VARIABLE, raising=False)
    for name in set(attngraft.names()) - before:
        unregister(name)
    for value in vars(module).values():
        if isinstance(value, type):
            copyreg.dispatch_table.pop(value, None)
    sys.modules.pop(file.stem)


def find(name: str, recipe: str, **circumstances: object) -> Finding:
    with quiet():
        (finding,) = examine(DetectorSubject(recipe, **circumstances), [CHECKS[name]])  # type: ignore[arg-type]
    return finding


def test_a_healthy_detector_passes_every_row(tiny_data: Callable[[str], str]) -> None:
    pytest.importorskip("cloudpickle", reason="needs the [dev] extra")
    seen: list[str] = []
    diagnosis = attngraft.doctor(
        f"{MICRO}+eca@P3", imgsz=96, batch=2, data=tiny_data("detect"), found=lambda f: seen.append(f.name)
    )
    assert {f.status for f in diagnosis.findings} <= {"pass", "skip"}, str(diagnosis)
    assert seen == [item.name for item in DETECTOR_CHECKS]
    assert all(f.status == "pass" for f in diagnosis.findings if f.name in ("reload", "gpu workers", "identity"))
    assert {file.name for file in Path.cwd().iterdir()} == {"cache"}, "it leaves seed checkpoints alone behind"
    json.dumps(diagnosis.to_dict(), allow_nan=False)


@pytest.mark.parametrize(
    ("check", "recipe", "message"),
    [
        ("opens", "fixed_table@P3", r"size of tensor a \(\d+\) must match the size of tensor b \(14\)"),
        ("mechanisms", "nan_small@P3", "NanSmall: sizes: 1x1: .*values are not finite"),
        ("mechanisms", "in_place@P3", "InPlace: input kept: modified in training and inference mode"),
        ("mechanisms", "mixes_batch@P3", "MixesBatch: batch: "),
        ("identity", "in_place@P3", "differs from the base"),
        ("batches", "mixes_batch@P3", "an image's output changes by"),
        ("gradients", "detached@P3", "none reaches .*conv.weight"),
        ("training", "explodes@P3", "the loss is nan at step 0"),
        ("half precision", "overflows@P3", "float16: values are not finite"),
        ("averaged copy", "keeps_its_output@P3", "RuntimeError: Only Tensors created explicitly"),
        ("same seed", "noisy@P3", "two inferences differ"),
    ],
)
def test_each_way_to_break_one_is_caught(check: str, recipe: str, message: str, broken: None) -> None:
    finding = find(check, f"{MICRO}+{recipe}")
    assert finding.status == "fail", finding
    assert re.search(message, finding.detail), finding.detail
    assert finding.remedy


def test_a_random_detector_is_not_compared_with_itself(broken: None) -> None:
    with quiet():
        subject = DetectorSubject(f"{MICRO}+noisy@P3")
        rows = [CHECKS[name] for name in ("same seed", "batches", "averaged copy", "torchscript", "reload")]
        first, *others = examine(subject, rows)
    assert first.status == "fail"
    assert {(f.status, f.detail) for f in others} == {("skip", "needs 'same seed', which failed")}
    names = [item.name for item in DETECTOR_CHECKS]
    assert all(names.index(needed) < names.index(item.name) for item in DETECTOR_CHECKS for needed in item.needs)


def test_adaptive_pooling_cannot_be_exported(broken: None) -> None:
    pytest.importorskip("onnxruntime", reason="needs the [export] extra")
    finding = find("onnx", f"{MICRO}+pools_up@P3")
    assert finding.status == "fail"
    assert "adaptive_avg_pool2d" in finding.detail
    assert "no adaptive pooling" in finding.remedy


def test_the_papers_form_and_replacements_promise_no_identity() -> None:
    assert find("identity", f"{MICRO}+eca(init=paper)@P3").status == "skip"
    assert find("identity", MICRO).status == "skip"


def test_global_attention_on_a_large_map_is_refused_with_the_number(monkeypatch: pytest.MonkeyPatch) -> None:
    from attngraft.measure import memory

    monkeypatch.setattr(memory, "free", lambda *_: 16 * 2**30)
    finding = find("memory of exports", f"{MICRO}+mhsa(heads=4)@P3", imgsz=1280)
    assert finding.status == "fail"
    assert "9.8 GiB an image at 1280: mhsa at 3.grafts.0.mechanism, 25,600 cells" in finding.detail
    training = find("memory at largest", f"{MICRO}+mhsa@P3", imgsz=1280, batch=64)
    assert training.status == "fail"
    assert int(training.detail.rpartition(" ")[2]) < 64
    dear = find("true flops", f"{MICRO}+mhsa@P3", imgsz=1280)
    assert dear.status == "warn"
    assert "the host's profiler would print" in dear.detail


def test_all_pairs_of_a_users_own_attention_are_measured(broken: None, monkeypatch: pytest.MonkeyPatch) -> None:
    from attngraft.measure import memory

    monkeypatch.setattr(memory, "free", lambda *_: 16 * 2**30)
    finding = find("memory of exports", f"{MICRO}+all_pairs@P3", imgsz=1280)
    assert finding.status == "fail"
    need = float(finding.detail.partition(" ")[0])
    assert need == pytest.approx(4 * 4 * 25_600**2 / 2**30, rel=0.15), "four heads in float32"
    assert "all_pairs at 3.grafts.0.mechanism, 25,600 cells" in finding.detail
    assert find("memory of exports", f"{MICRO}+mixes_batch@P3", imgsz=1280).status == "pass"


@pytest.mark.parametrize(
    ("recipe", "imgsz", "side", "stride"),
    [
        (MICRO, 100, 128, 32),
        ("yolov8n-p6.yaml", 100, 128, 64),
        ("yolo11n-cls.yaml", 100, 100, 32),
    ],
)
def test_pictures_follow_the_strides_of_the_model(recipe: str, imgsz: int, side: int, stride: int) -> None:
    with quiet():
        subject = DetectorSubject(recipe, imgsz)
        opens, *others = examine(subject, [CHECKS[name] for name in ("opens", "image sizes", "memory at largest")])
    assert (subject.side, subject.stride) == (side, stride)
    assert (f"imgsz={imgsz} is {side}, as the stride is {stride}" in opens.detail) == (imgsz != side)
    assert {f.status for f in others} == {"pass"}, others
    assert others[0].detail.startswith(f"{2 * stride}x{2 * stride}, {stride}x{stride}, ")
    assert f"{side}x{side}" in others[1].detail


@pytest.mark.parametrize("task", ["seg", "cls", "pose", "obb"])
def test_other_tasks_train_with_the_hosts_loss_and_reload(task: str) -> None:
    with quiet():
        subject = DetectorSubject(f"yolo11n-{task}.yaml+eca@4")
        found = list(examine(subject, [CHECKS[name] for name in ("opens", "gradients", "reload")]))
    assert {f.status for f in found} == {"pass"}, found


def test_flops_of_large_pictures_are_extended_exactly() -> None:
    from attngraft.doctor.mechanism.resources import flops_at
    from attngraft.measure import flops

    model = attngraft.YOLO(f"{MICRO}+mhsa(position=none)@P3").model
    assert flops_at(model, 640) == pytest.approx(flops(model, torch.zeros(1, 3, 640, 640)), rel=1e-3)


def test_a_broken_data_file_is_a_finding() -> None:
    finding = find("data", MICRO, data="nowhere.yaml")
    assert finding.status == "fail"
    assert "nowhere.yaml" in finding.detail


class TestCommand:
    def run(self, *words: str) -> object:
        return CliRunner().invoke(main, ["doctor", *words])

    def test_rows_and_the_exit_code(self, broken: None) -> None:
        result = self.run(f"model={MICRO}+fixed_table@P3")
        assert result.exit_code == 1
        assert "fail  opens" in result.output
        assert "needs 'opens', which failed" in result.output

    def test_json(self, broken: None) -> None:
        result = self.run(f"model={MICRO}+fixed_table@P3", "--json")
        assert result.exit_code == 1
        stored = json.loads(result.output)
        assert (stored["schema"], stored["healthy"]) == ("attngraft.doctor/1", False)
        assert stored["findings"][0]["name"] == "opens"

    def test_json_is_alone_on_stdout_where_the_host_greets(self, tmp_path: Path) -> None:
        jsonschema = pytest.importorskip("jsonschema")
        ran = subprocess.run(
            [sys.executable, "-m", "attngraft", "doctor", "eca", "kernel_size=4", "--json"],
            env={**os.environ, "YOLO_CONFIG_DIR": str(tmp_path / "fresh")},
            capture_output=True,
            text=True,
            check=False,
        )
        assert ran.returncode == 1
        jsonschema.validate(json.loads(ran.stdout), attngraft.doctor.schema())
        assert "Ultralytics Settings" in ran.stderr

    @pytest.mark.parametrize(
        ("words", "message"),
        [
            (["model=x.yaml", "imgz=3"], "no key 'imgz'; did you mean imgsz"),
            (["eca", "imgz=3"], "no key 'imgz'; did you mean imgsz"),
            (["eca", "kernel=3"], "no key 'kernel'; did you mean kernel_size"),
            (["eca", "se"], "say what to examine"),
            ([f"model={MICRO}+ecaa@P3"], "did you mean eca"),
            (["ecca"], "no mechanism or model is called 'ecca'; did you mean eca"),
            (["nowhere.yaml"], "the model 'nowhere.yaml' does not exist; check the path"),
            (["model=nowhere.yaml+eca@P3"], "the model 'nowhere.yaml' does not exist; check the path"),
            (["nowhere.py:Mine"], "is no Python file"),
            (["eca", "batch=-1"], "needs batch to be a whole number of 1 or more, got -1"),
            (["eca", "imgsz=abc"], "needs imgsz to be a whole number of 1 or more, got 'abc'"),
            (["eca", "channels=abc"], "needs channels to be a whole number of 1 or more, got 'abc'"),
            ([MICRO, "imgsz=64.5"], "needs imgsz to be a whole number of 1 or more, got 64.5"),
        ],
    )
    def test_mistakes_are_one_sentence(self, words: list[str], message: str) -> None:
        result = self.run(*words)
        assert result.exit_code in (1, 2)
        assert message in result.output
        assert "Traceback" not in result.output
        assert "skip" not in result.output, "nothing is examined"

    def test_a_mechanism_takes_its_own_options(self) -> None:
        result = self.run("eca", "kernel_size=4")
        assert result.exit_code == 1
        assert "needs an odd kernel_size" in " ".join(result.output.split())
        assert "…" not in result.output, "names of rows are whole"
        with pytest.raises(UnknownNameError, match=r"option of ECA is called 'kernel'; did you mean kernel_size\?"):
            attngraft.doctor("eca", options={"kernel": 3})
        with pytest.raises(OptionError, match="in a recipe they stand in it"):
            attngraft.doctor(MICRO, options={"kernel_size": 3})


def test_the_package_is_the_function() -> None:
    import attngraft.doctor as package
    from attngraft.doctor import doctor, subject

    assert attngraft.doctor is package is doctor
    assert callable(package.subject)
    assert package.subject is subject
