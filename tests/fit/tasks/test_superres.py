"""Super-resolution: the small images, the measures against a slow reading of their formulas, and a training."""

from __future__ import annotations

import math
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn import functional as F
from torchmetrics.functional.image import structural_similarity_index_measure

from attngraft._core.errors import DataError
from attngraft._core.progress import Lines
from attngraft.fit import Fit, Options, load, validate
from attngraft.fit.predicting import predict
from attngraft.fit.tasks.superres import SuperResolution, bicubic, luma, measures, pair, patch


def picture(height: int, width: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (height, width, 3)).astype(np.uint8)


def tensor(pixels: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(pixels).permute(2, 0, 1)[None].float() / 255


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_the_small_picture_is_pillows_bicubic(scale: int) -> None:
    large = picture(24, 36)
    small = bicubic(tensor(large), (24 // scale, 36 // scale))
    expected = Image.fromarray(large).resize((36 // scale, 24 // scale), Image.Resampling.BICUBIC)
    # Pillow's weights are fixed-point and each axis is rounded.
    assert (small - tensor(np.array(expected))).abs().max() * 255 <= 1.5
    torch.testing.assert_close(small * 255, (small * 255).round(), atol=1e-4, rtol=0)


def test_luma_is_that_of_bt601() -> None:
    corners = torch.tensor([[0.0, 0, 0], [255, 255, 255], [255, 0, 0], [0, 255, 0]]).reshape(4, 3, 1, 1)
    np.testing.assert_allclose(luma(corners).flatten(), [16, 235, 81.481, 144.553], atol=1e-3)


def test_psnr_is_of_the_luma_inside_the_border() -> None:
    wanted, found = picture(30, 26), picture(30, 26)
    found[5, 7] = 255 - found[5, 7]
    found[0] = 0  # in the border
    weights = np.array([65.481, 128.553, 24.966]) / 255
    difference = ((found.astype(float) - wanted) @ weights)[2:-2, 2:-2]
    expected = 10 * math.log10(255**2 / (difference**2).mean())
    numbers = measures(tensor(found), tensor(wanted), 2)
    assert float(numbers["psnr"]) == pytest.approx(expected, abs=1e-4)


def wangs_ssim(found: np.ndarray, wanted: np.ndarray) -> float:
    """An 11x11 Gaussian of deviation 1.5, K of 0.01 and 0.03, averaged over every whole window of two luma images."""
    offsets = np.arange(11) - 5
    window = np.exp(-(offsets[:, None] ** 2 + offsets**2) / (2 * 1.5**2))
    window /= window.sum()
    values = []
    for top in range(found.shape[0] - 10):
        for left in range(found.shape[1] - 10):
            a, b = (image[top : top + 11, left : left + 11] for image in (found, wanted))
            ma, mb = (window * a).sum(), (window * b).sum()
            va, vb = (window * (a - ma) ** 2).sum(), (window * (b - mb) ** 2).sum()
            c = (window * (a - ma) * (b - mb)).sum()
            c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
            values.append((2 * ma * mb + c1) * (2 * c + c2) / ((ma**2 + mb**2 + c1) * (va + vb + c2)))
    return float(np.mean(values))


def damaged(height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    """A flat grey image with noise at its right edge, and one that lacks some of the noise."""
    wanted = np.full((height, width, 3), 200, np.uint8)
    wanted[:, -6:] = picture(height, 6)
    return (wanted * 0.7 + 20).astype(np.uint8), wanted


@pytest.mark.parametrize("size", [(11, 11), (11, 14), (17, 15), (43, 38)])
def test_ssim_is_wangs(size: tuple[int, int]) -> None:
    """Over whole windows alone, and over the padded image the mean would be another."""
    found, wanted = damaged(*size)
    weights = np.array([65.481, 128.553, 24.966]) / 255
    x, y = (16 + image.astype(float) @ weights for image in (found, wanted))
    numbers = measures(tensor(found), tensor(wanted), 0)
    assert float(numbers["ssim"]) == pytest.approx(wangs_ssim(x, y), abs=1e-5)
    padded = structural_similarity_index_measure(
        *(torch.tensor(image)[None, None] for image in (x, y)), data_range=255.0
    )
    assert abs(float(padded) - float(numbers["ssim"])) > 1e-3
    shaved = measures(
        *(F.pad(tensor(image), (3, 3, 3, 3), value=number) for number, image in enumerate((found, wanted))), 3
    )
    assert float(shaved["ssim"]) == float(numbers["ssim"])


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_a_run_of_mixed_precision_has_the_same_measures(dtype: torch.dtype) -> None:
    found, wanted = map(tensor, damaged(43, 38))
    with torch.autocast("cpu", dtype):
        mixed = measures(found, wanted, 2)
    assert mixed == measures(found, wanted, 2)


def test_a_picture_that_is_all_border_has_no_measure() -> None:
    assert measures(tensor(picture(4, 4)), tensor(picture(4, 4)), 2) == {}
    assert set(measures(tensor(picture(12, 12)), tensor(255 - picture(12, 12)), 2)) == {"psnr"}


def test_a_picture_that_is_made_exactly_has_no_psnr() -> None:
    numbers = measures(tensor(picture(20, 20)), tensor(picture(20, 20)), 2)
    assert {name: float(value) for name, value in numbers.items()} == {"ssim": pytest.approx(1)}


def test_what_has_no_measure_is_left_out_of_the_means_and_counted(
    photos: Path, begin: Callable[..., Fit], tmp_path: Path
) -> None:
    """A flat image makes the PSNR of bicubic infinite, and one of 12 pixels has no SSIM inside a border of 2."""
    shutil.copytree(photos / "train", tmp_path / "data/train")
    (tmp_path / "data/val").mkdir()
    for number in range(2):
        Image.fromarray(picture(30 + 2 * number, 40)).save(tmp_path / f"data/val/{number}.png")
    trained = load(begin(tmp_path / "data", "tiny_enlarger", imgsz=12, batch=4, epochs=1).run().folder)
    expected = validate(trained, workers=0)
    assert set(expected) == {"psnr", "ssim", "bicubic_psnr", "bicubic_ssim"}
    values = []
    for number in range(2):
        low, high = pair(tmp_path / f"data/val/{number}.png", None, 2)
        values.append(float(measures(bicubic(low[None], high.shape[-2:]), high[None], 2)["psnr"]))
    assert expected["bicubic_psnr"] == pytest.approx(np.mean(values), abs=1e-4)
    Image.new("RGB", (40, 40), (128, 128, 128)).save(tmp_path / "data/val/flat.png")
    found = validate(trained, workers=0)
    assert found["psnr_left_out"] == 1
    assert {name: found[name] for name in ("psnr", "bicubic_psnr")} == pytest.approx(
        {name: expected[name] for name in ("psnr", "bicubic_psnr")}
    )
    for file in (tmp_path / "data/val").iterdir():
        file.unlink()
    Image.fromarray(picture(12, 12)).save(tmp_path / "data/val/small.png")
    found = validate(trained, workers=0)
    assert set(found) == {"psnr", "bicubic_psnr", "ssim_left_out"}
    assert found["ssim_left_out"] == 1


def test_patches_of_both_are_the_same_place() -> None:
    high = torch.rand(3, 24, 40)
    low = high[:, ::2, ::2]
    small, large = patch(low, high, 8, flip=False)
    assert torch.equal(large[:, ::2, ::2], small)
    small, large = patch(low, high, 30, flip=True)  # larger than the image
    assert (small.shape, large.shape) == ((3, 30, 30), (3, 60, 60))


def test_pairs_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    Image.fromarray(picture(9, 12)).save(tmp_path / "high.png")
    Image.fromarray(picture(4, 6)).save(tmp_path / "low.png")
    Image.fromarray(picture(1, 1)).save(tmp_path / "one.png")
    with pytest.raises(DataError, match="high.png has 12x9 pixels and should have scale=2 times the 6x4 of .*low.png"):
        pair(tmp_path / "high.png", tmp_path / "low.png", 2)
    with pytest.raises(DataError, match="one.png has 1x1 pixels, too few to be made 2 times smaller"):
        pair(tmp_path / "one.png", None, 2)
    low, high = pair(tmp_path / "high.png", None, 2)
    assert (low.shape, high.shape) == ((3, 4, 6), (3, 8, 12))


def test_sizes_are_checked_before_anything_is_trained(
    photos: Path, begin: Callable[..., Fit], lines: list[str]
) -> None:
    shutil.copytree(photos, "data")
    Image.fromarray(picture(1, 1)).save("data/val/one.png")
    with pytest.raises(DataError, match="data/val/one.png has 1x1 pixels, too few to be made 2 times smaller"):
        begin(Path("data"), "tiny_enlarger", imgsz=12, batch=4, progress=Lines(lines.append)).run()
    assert lines == []
    assert not Path("runs").exists()


def test_a_pair_of_which_one_is_turned_by_its_tag_is_a_pair(tmp_path: Path) -> None:
    for name in ("hr", "lr"):
        (tmp_path / "train" / name).mkdir(parents=True)
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(picture(8, 12)).save(tmp_path / "train/hr/a.png", exif=exif)
    Image.fromarray(picture(6, 4)).save(tmp_path / "train/lr/a.png")
    options = Options.of({"model": "tiny_enlarger", "data": str(tmp_path)})
    data = SuperResolution.read(options, "train")
    low, high = pair(data.high[0], data.low[0], 2)
    assert (low.shape, high.shape) == ((3, 6, 4), (3, 12, 8))
    Image.fromarray(picture(6, 5)).save(tmp_path / "train/lr/a.png")
    with pytest.raises(DataError, match="should have scale=2 times the 5x6 of"):
        SuperResolution.read(options, "train")


def test_it_enlarges_better_than_bicubic(
    photos: Path, begin: Callable[..., Fit], lines: list[str], tmp_path: Path
) -> None:
    options = {"imgsz": 12, "batch": 4, "epochs": 20, "lr": 0.005, "ema": 0.8, "val_every": 20, "scale": 3}
    result = begin(photos, "tiny_enlarger", **options).run()
    assert result.best["psnr"] > result.best["bicubic_psnr"] + 0.1
    trained = load(result.folder)
    assert trained.classes == ()
    assert validate(trained, workers=0)["psnr"] == pytest.approx(result.best["psnr"], abs=1e-3)
    Image.fromarray(picture(5, 7)).save(tmp_path / "in.png")
    Image.fromarray(picture(1, 1)).save(tmp_path / "in.bmp")
    predict(trained, tmp_path / "in.png", "out", progress=Lines(lines.append))
    with Image.open("out/in.png") as made:
        assert made.size == (21, 15)
    assert lines == [f"{tmp_path}/in.png: 21x15 pixels; out/in.png"]
    predict(trained, tmp_path, "both", progress=Lines(lines.append))
    assert {file.name for file in Path("both").iterdir()} >= {"in.png", "in-2.png"}
