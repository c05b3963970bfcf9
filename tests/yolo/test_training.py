"""Real trainings by the host: what a graft must survive."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from ultralytics import YOLO as StockYOLO
from ultralytics.nn.tasks import load_checkpoint

import attngraft
from attngraft.yolo.training import train, why_equal
from tests.hostkit import TRAIN

Data = Callable[[str], str]
Fresh = Callable[..., str]


def graft_keys(model: torch.nn.Module) -> set[str]:
    return {key for key in model.state_dict() if ".grafts." in key}


def gamma(model: torch.nn.Module) -> torch.Tensor:
    return torch.cat([value.flatten() for key, value in model.state_dict().items() if key.endswith(".gamma")])


@pytest.fixture(scope="module")
def trained(tiny_data: Data, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Train a grafted model for two epochs and return its run folder."""
    folder = tmp_path_factory.mktemp("trained")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ATTNGRAFT_CACHE", str(folder / "cache"))
        model = attngraft.YOLO("yolo11n.yaml+se@P5+eca@P4")
        model.train(data=tiny_data("detect"), project=str(folder), name="run", **{**TRAIN, "epochs": 2})
    return folder / "run"


@pytest.mark.parametrize(
    ("task", "base"),
    [
        ("segment", "yolov8n-seg.yaml"),
        ("pose", "yolo26n-pose.yaml"),
        ("obb", "yolo11n-obb.yaml"),
        ("classify", "yolo11n-cls.yaml"),
        ("detect", "yolov10n.yaml"),
        ("detect", "yolo12n.yaml"),
    ],
)
def test_every_task_trains_its_graft(task: str, base: str, tiny_data: Data) -> None:
    model = attngraft.YOLO(f"{base}+se@P5")
    before = graft_keys(model.model)
    model.train(data=tiny_data(task), project="runs", name="run", exist_ok=True, **TRAIN)
    assert graft_keys(model.model) == before != set()
    assert gamma(model.model).abs().max() > 0


def test_rtdetr_trains_its_graft(tiny_data: Data) -> None:
    model = attngraft.YOLO("rtdetr-l.yaml+se@P5")
    model.train(data=tiny_data("detect"), project="runs", name="run", **{**TRAIN, "optimizer": "AdamW", "lr0": 0.01})
    assert type(model).__name__ == "RTDETR"
    assert gamma(model.model).abs().max() > 0


def start(model: StockYOLO, data: str, seed: int) -> dict[str, torch.Tensor]:
    """Return the grafts' tensors with which a training starts."""
    found: dict[str, torch.Tensor] = {}

    def stop(trainer: Any) -> None:
        state = trainer.model.state_dict()
        found.update({key: value.clone() for key, value in state.items() if ".grafts." in key or ".cv2.conv" in key})
        raise KeyboardInterrupt

    model.add_callback("on_train_start", stop)
    with pytest.raises(KeyboardInterrupt):
        model.train(data=data, project=str(Path.cwd()), name="start", exist_ok=True, seed=seed, **TRAIN)
    return found


class TestSeed:
    """A graft that was never trained starts under the seed of the training, and one that was changed stays."""

    @pytest.fixture
    def grafted(self) -> str:
        StockYOLO("attngraft-micro.yaml").save("stock.pt")
        return str(attngraft.graft("stock.pt", "mhsa(mode=replace,heads=2)@3+se@P3", "grafted.pt"))

    def test_the_seed_decides_where_grafts_onto_weights_start(self, grafted: str, tiny_data: Data) -> None:
        data = tiny_data("detect")
        first = start(attngraft.YOLO("stock.pt+se@P3+eca@1"), data, 0)
        torch.manual_seed(5)
        again = start(attngraft.YOLO("stock.pt+se@P3+eca@1"), data, 0)
        other = start(attngraft.YOLO("stock.pt+se@P3+eca@1"), data, 1)
        random = [key for key in first if key.endswith(".weight") and ".grafts." in key]
        assert random
        assert all(torch.equal(value, again[key]) for key, value in first.items())
        assert all(not torch.equal(first[key], other[key]) for key in random)
        file = [start(StockYOLO(grafted), data, seed) for seed in (0, 0, 1)]
        key = next(key for key in file[0] if ".grafts." in key and key.endswith(".weight"))
        assert torch.equal(file[0][key], file[1][key])
        assert not torch.equal(file[0][key], file[2][key])

    def test_weights_that_were_changed_are_kept(self, grafted: str, tiny_data: Data) -> None:
        model = attngraft.YOLO(grafted)
        with torch.no_grad():
            next(value for key, value in model.model.named_parameters() if key.endswith("gamma")).fill_(0.5)
        expected = model.model.state_dict()
        found = start(model, tiny_data("detect"), 1)
        assert found
        assert all(torch.equal(value, expected[key]) for key, value in found.items())

    def test_weights_that_are_loaded_by_hand_are_the_files(self, grafted: str) -> None:
        model = attngraft.YOLO("attngraft-micro.yaml+se@P3").load(grafted)
        there = StockYOLO(grafted).model.state_dict()
        assert all(torch.equal(model.model.state_dict()[key], there[key]) for key in graft_keys(model.model))


def test_training_moves_every_tensor_of_the_graft(trained: Path) -> None:
    ckpt, _ = load_checkpoint(trained / "weights" / "last.pt")
    seed = attngraft.YOLO("yolo11n.yaml+se@P5+eca@P4").model
    assert graft_keys(ckpt) == graft_keys(seed)
    assert gamma(ckpt).abs().max() > 0


def test_a_checkpoint_opens_in_a_process_that_never_imported_us(trained: Path, fresh: Fresh) -> None:
    best = trained / "weights" / "best.pt"
    picture = torch.rand(1, 3, 96, 64)
    torch.save(picture, "picture.pt")
    model, _ = load_checkpoint(best)
    with torch.no_grad():
        expected = model.eval()(picture)[0]
    code = f"""
import sys, torch
from ultralytics import YOLO
assert "attngraft" not in sys.modules
model = YOLO({str(best)!r}).model.eval()
with torch.no_grad():
    torch.save(model(torch.load("picture.pt"))[0], "answer.pt")
"""
    fresh(code)
    assert torch.equal(torch.load("answer.pt"), expected)


def test_safe_loading_mode_takes_our_checkpoints(trained: Path, fresh: Fresh) -> None:
    best = trained / "weights" / "best.pt"
    code = f"import attngraft, ultralytics; print(len(ultralytics.YOLO({str(best)!r}).model.state_dict()))"
    assert int(fresh(code, ULTRALYTICS_SAFE_LOAD="1")) == len(load_checkpoint(best)[0].state_dict())


def test_an_interrupted_training_resumes(tiny_data: Data) -> None:
    model = attngraft.YOLO("yolo11n.yaml+se@P5")

    def stop(trainer: object) -> None:
        if trainer.epoch == 1:  # type: ignore[attr-defined]
            raise KeyboardInterrupt

    model.add_callback("on_train_epoch_start", stop)
    with pytest.raises(KeyboardInterrupt):
        model.train(data=tiny_data("detect"), project=str(Path.cwd()), name="run", **{**TRAIN, "epochs": 2})
    last = Path("run/weights/last.pt")
    stopped = gamma(load_checkpoint(last)[0])
    resumed = StockYOLO(last)
    resumed.train(resume=True)
    assert (len(Path("run/results.csv").read_text().splitlines())) == 3
    assert not torch.equal(gamma(resumed.model), stopped)


def test_tuning_keeps_the_graft(tiny_data: Data) -> None:
    model = attngraft.YOLO("yolo11n.yaml+se@P5")
    model.tune(data=tiny_data("detect"), iterations=1, project=str(Path.cwd()), name="tune", **{**TRAIN, "val": True})
    (best,) = Path("tune").rglob("best.pt")
    assert graft_keys(load_checkpoint(best)[0])


def test_a_worker_of_multi_gpu_training_trains_the_graft(tiny_data: Data, fresh: Fresh) -> None:
    """The file that the host writes for its workers, run as it stands in a fresh process."""
    code = f"""
import attngraft
from ultralytics.models.yolo.detect import DetectionTrainer
from ultralytics.utils.dist import generate_ddp_file
model = attngraft.YOLO("yolo11n.yaml+mhsa@P5")
ours = dict(data={tiny_data("detect")!r}, project={str(Path.cwd())!r}, name="worker", **{TRAIN!r})
trainer = DetectionTrainer(overrides={{**model.overrides, **ours}})
trainer.model = trainer.get_model(weights=model.model, cfg=model.model.yaml)
print(generate_ddp_file(trainer))
"""
    worker = Path(fresh(code).strip().splitlines()[-1])
    fresh(f"import runpy; runpy.run_path({str(worker)!r}, run_name='__main__')")
    (last,) = Path("worker").parent.rglob("worker*/weights/last.pt")
    trained, _ = load_checkpoint(last)
    assert graft_keys(trained)
    assert gamma(trained).abs().max() > 0


def test_the_stock_yolo_command_trains_validates_predicts(tiny_data: Data, fresh: Fresh) -> None:
    file = attngraft.graft("yolo11n.yaml", "se@P5", "grafted.pt")
    data = tiny_data("detect")
    common = f"data={data} imgsz=64 device=cpu workers=0 plots=False"
    short = f"epochs=1 batch=4 nbs=4 amp=False optimizer=SGD lr0=0.1 project={Path.cwd()} name=run"
    for command in (
        f"detect train model={file} {common} {short}",
        f"detect val model=run/weights/best.pt {common} batch=4",
        f"detect predict model=run/weights/best.pt source={Path(data).parent / 'images/val'} imgsz=64 device=cpu",
    ):
        fresh(f"import sys; sys.argv = ['yolo', *{command.split()!r}]; import ultralytics.cfg as c; c.entrypoint()")
    trained, _ = load_checkpoint("run/weights/last.pt")
    assert gamma(trained).abs().max() > 0


def facts(final: str = "aa", gates: dict[str, float] | None = None) -> dict[str, object]:
    return {"final": [final, 3], "gates": gates or {}}


def test_a_run_that_equals_its_baseline_says_why() -> None:
    stock = facts()
    assert why_equal(facts(gates={"model.3.grafts.0": 0.0}), stock).startswith(
        "its weights outside grafts equal the baseline's bit for bit, and no graft has moved: there is nothing to judge"
    )
    assert "its detections equal the baseline's, and its grafts have barely moved (largest gate 4e-05)" in (
        why_equal(facts("bb", {"a": 3.6e-5, "b": 0.0}), stock)
    )
    assert "leave the grafts out of freeze=" in why_equal({}, {}).lower()


def test_a_training_notes_how_far_its_grafts_came(tiny_data: Data) -> None:
    runs = {
        name: train(recipe, tiny_data("detect"), seed=0, folder=Path(name).resolve(), options={**TRAIN, **more})
        for name, recipe, more in (
            ("stock", "attngraft-micro.yaml", {}),
            ("moves", "attngraft-micro.yaml+se@P3+eca(init=paper)@1", {}),
            ("frozen", "attngraft-micro.yaml+se@P3", {"freeze": ["grafts"]}),
        )
    }
    stock, moves, frozen = (runs[name].facts() for name in ("stock", "moves", "frozen"))
    assert stock["gates"] == {}
    assert set(moves["gates"]) == {"model.3.grafts.0", "model.1.grafts.0.mechanism.conv"}
    assert all(value > 0 for value in moves["gates"].values())
    assert moves["final"][0] != stock["final"][0]
    assert frozen["gates"] == {"model.3.grafts.0": 0.0}
    assert tuple(frozen["final"]) == tuple(stock["final"]) != ("", 0)
    assert "bit for bit, and no graft has moved" in why_equal(frozen, stock)
