"""Write docs/models.md and its Chinese twin from the models: sizes and multiply-adds, without computing anything.

Run it after a change to a model. With --check nothing is written, and the exit status is 1 if the page is out of date.
"""

from __future__ import annotations

import argparse
import inspect
import re
from collections.abc import Sequence
from itertools import groupby
from pathlib import Path
from types import ModuleType

import torch
from torch import nn

from attngraft._core.registry import provenance
from attngraft.measure import flops, parameters
from attngraft.models import ModelRecord, models

ROOT = Path(__file__).resolve().parents[1]
PAGES = (Path("docs/models.md"), Path("docs/models.zh-CN.md"))
SIDES = {"classify": 224, "superres": 64}
"""Side of the images that the work is counted on, where a model has no size of its own."""

HEADER = """# Models

Every whole model there is, written by `python tools/models_page.py` from the source: do not edit.
[中文](models.zh-CN.md)

```python
from attngraft.models import create, load_shared, names

net = create("botnet50", num_classes=10, image_size=320)  # names("classify") lists the others
maps = net.forward_features(images)  # at strides 4, 8, 16 and 32: net.channels, net.strides
print(load_shared(net, torchvision.models.resnet50(weights="DEFAULT").state_dict()))
# 315 of 326 tensors taken; 5 left over
detector = create("maskrcnn_botnet50", num_classes=3, min_size=512, max_size=512)  # torchvision's Mask R-CNN
```

Images may have any size; position tables are made for `image_size` and serve others by their centre or interpolated.

**Weights of the authors.** `from_official` of `attngraft.models.dilateformer`, `flatten_pvt` (both versions),
`flatten_swin` and `hat` converts a checkpoint of the authors' code, and `load_timm` one of timm's BoTNets. The
converted networks give the numbers of the authors' to rounding:

```python
from attngraft.models.flatten_pvt import from_official

net = create("flatten_pvt_tiny", final_norm=False)  # the authors' code never applies the last norm
net.load_state_dict(from_official(torch.load("flatten_pvt_t.pth", weights_only=True)))
```

`load_shared` refuses a state that fills less than half of a model, such as an unconverted one: it would leave a random
network under a trained classifier.

**As the backbone of a YOLO.** A name such as `yolo11n-botnet50.yaml` is `yolo11n.yaml` with that backbone, for every
family whose head reads up to three maps, every task (`yolo11n-botnet50-seg.yaml`) and every classifier below; grafts go
on top: `attngraft train model=yolo11n-botnet50.yaml+ema@N3 data=my.yaml`. BoTNet-S1 stays at stride 16: a detector
reads its last map there, and pooled at 32. Options stand in a file of your own:

```yaml
base: yolo11n.yaml
backbone: [botnet50, {position: absolute, image_size: 320}]
grafts: ema@N3
```

To start from the weights of a classifier, call `load_shared(model.model.model[0].body, state)` on an `attngraft.YOLO`,
then `model.save("start.pt")`, and train from that file.

**MAY** is `attngraft train model=may data=my.yaml`; `may-se` and `may-none` are what its paper compares it with. With
YOLOv5's head of anchors they have the published 3,138,055, 3,593,999 and 3,137,977 parameters; Ultralytics dropped
that head, so its own Detect takes the same three maps (5,194,418 parameters at 20 classes). As in the authors' code the
gates of the backbone stand before the activation of the depth-wise convolution; `backbone: [mobilenetv3_small, {gate:
mlca, gate_order: after}]` in a file of your own puts them after it, as MobileNetV3 has its own.

**In timm.** With `import attngraft`, timm creates every classifier: `timm.create_model("attngraft_botnet50",
features_only=True)`. A mechanism of the zoo is timm's `attn_layer`, `block_args={"attn_layer": ECA}`, with
options by `functools.partial`; blocks that pass an activation too, by `se_layer`, take `lambda c, **_: ECA(c)`.

Multiply-adds are those of convolutions, linear layers and matrix products on one square image of the side given, on
the CPU. On accelerators BoTNet's positions are carried in extra channels of queries and keys: 3 % more for `botnet_t7`,
17 % for `botnet50` at 1024 pixels. A detector's depend on what it sees.
"""

CHINESE_HEADER = """# 网络目录

全部完整的网络，由 `python tools/models_page.py` 从源代码生成，请勿手工修改；各网络的说明为英文。[English](models.md)

```python
from attngraft.models import create, load_shared, names

net = create("botnet50", num_classes=10, image_size=320)  # 其余见 names("classify")
maps = net.forward_features(images)  # 步长 4、8、16、32 处的特征图：net.channels、net.strides
print(load_shared(net, torchvision.models.resnet50(weights="DEFAULT").state_dict()))
# 315 of 326 tensors taken; 5 left over
detector = create("maskrcnn_botnet50", num_classes=3, min_size=512, max_size=512)  # torchvision 的 Mask R-CNN
```

图像可以是任意大小；位置表按 `image_size` 建立，用于其他大小时取中间部分，或插值。

**作者的权重。** `attngraft.models.dilateformer`、`flatten_pvt`（两个版本）、
`flatten_swin` 与 `hat` 的 `from_official`
转换作者代码的权重文件，`load_timm` 转换 timm 的 BoTNet。转换后的网络与作者的数值一致，只差舍入：

```python
from attngraft.models.flatten_pvt import from_official

net = create("flatten_pvt_tiny", final_norm=False)  # 作者的代码从不使用最后一个归一化层
net.load_state_dict(from_official(torch.load("flatten_pvt_t.pth", weights_only=True)))
```

`load_shared` 拒绝填不满半个网络的权重，例如没有转换过的：否则训练好的分类层下面会是随机的网络。

**用作 YOLO 的主干。** `yolo11n-botnet50.yaml` 这样的名字，就是换上该主干的 `yolo11n.yaml`；
凡是检测头读取至多三个特征图的系列、
所有任务（`yolo11n-botnet50-seg.yaml`）和下列所有分类网络都可以，还可以再嫁接：
`attngraft train model=yolo11n-botnet50.yaml+ema@N3 data=my.yaml`。BoTNet-S1 停在步长 16：
检测器的最后一个特征图取自那里，
并池化到步长 32。选项写在自己的文件里：

```yaml
base: yolo11n.yaml
backbone: [botnet50, {position: absolute, image_size: 320}]
grafts: ema@N3
```

要从分类网络的权重开始，对一个 `attngraft.YOLO` 调用 `load_shared(model.model.model[0].body, state)`，
再 `model.save("start.pt")`，
然后从该文件训练。

**MAY** 用 `attngraft train model=may data=my.yaml`；`may-se` 与 `may-none` 是论文中与它比较的网络。
使用 YOLOv5 带锚框的检测头时，
参数量与论文公布的一致：3,138,055、3,593,999 与 3,137,977；Ultralytics 已去掉该检测头，
因此由它自己的 Detect 读取同样的三个特征图
（20 类时 5,194,418 个参数）。主干的门控位于深度卷积的激活之前，与作者的代码相同；在自己的文件里写
`backbone: [mobilenetv3_small, {gate: mlca, gate_order: after}]`，门控就在激活之后，与 MobileNetV3 自己的一致。

**在 timm 中。** `import attngraft` 之后，timm 可以创建所有分类网络：
`timm.create_model("attngraft_botnet50", features_only=True)`。
机制可以直接作为 timm 的 `attn_layer`：`block_args={"attn_layer": ECA}`，选项用 `functools.partial` 给出；
`se_layer` 会多传一个激活函数，写作 `lambda c, **_: ECA(c)`。

乘加次数是卷积、线性层与矩阵乘法的次数，对一张所给边长的正方形图像，在 CPU 上计。在加速器上，
BoTNet 的位置放在查询与键的附加通道里：
`botnet_t7` 多 3 %，`botnet50` 在 1024 像素时多 17 %。检测网络的次数取决于它看到的内容。
"""

CHINESE_COLUMNS = "| 名称 | 任务 | 参数量 | 乘加次数 | 边长 |"
COLUMNS = "| Name | Task | Parameters | Multiply-adds | Side |"


def pages() -> dict[Path, str]:
    """Return both pages: a section for each file of models."""
    records = sorted(models().values(), key=lambda r: (home(r).__name__, number_aware(r.name)))
    sections = [section(file, list(own)) for file, own in groupby(records, key=home)]
    english = "\n".join([HEADER, *sections])
    chinese = "\n".join([CHINESE_HEADER, *sections]).replace(COLUMNS, CHINESE_COLUMNS)
    return dict(zip(PAGES, (english, chinese), strict=True))


def section(file: ModuleType, records: Sequence[ModelRecord]) -> str:
    """Return what there is to say of the models of a file."""
    facts = provenance(inspect.cleandoc(file.__doc__ or ""))
    title, _, _ = facts["summary"].partition(":")
    lines = [f"## {title}", "", facts["summary"], ""]
    lines += [f"- **{key}**: {facts[key.lower()]}" for key in ("Paper", "Code", "Differs")]
    lines += ["", COLUMNS, "|---|---|---|---|---|"]
    lines += [row(record) for record in records]
    return "\n".join(lines).replace("``", "`") + "\n"


def row(record: ModelRecord) -> str:
    """Return a model's row of the table."""
    with torch.device("meta"):
        net = record.build()
    side = side_of(record, net)
    work = ("–", "–") if side is None else (f"{macs(net, side) / 1e9:.2f} G", str(side))
    return f"| `{record.name}` | {record.task} | {parameters(net):,} | {' | '.join(work)} |"


def side_of(record: ModelRecord, net: nn.Module) -> int | None:
    """Return the side of the image that the work is counted on; None where it depends on what is seen."""
    if record.task not in SIDES:
        return None
    own = getattr(net, "image_size", SIDES[record.task])
    return int(max(own) if isinstance(own, tuple) else own)


def macs(net: nn.Module, side: int) -> int:
    """Count multiply-adds as the CPU computes them, which are those of the closed form."""
    with torch.device("meta"):
        return flops(net, torch.empty(1, 3, side, side)) // 2


def home(record: ModelRecord) -> ModuleType:
    """Return the file that a model stands in."""
    file = inspect.getmodule(record.build)
    assert file is not None
    return file


def number_aware(name: str) -> list[str | int]:
    """Return a key that puts botnet50 before botnet101."""
    return [int(part) if part.isdigit() else part for part in re.split(r"(\d+)", name)]


def main(arguments: Sequence[str] | None = None, root: Path = ROOT) -> int:
    """Write the pages, or say which are out of date."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--check", action="store_true", help="write nothing; exit with 1 if a page is out of date")
    check, stale = parser.parse_args(arguments).check, False
    for page, text in pages().items():
        file = root / page
        if file.exists() and file.read_text("utf-8") == text:
            continue
        stale = True
        print(page.as_posix(), "is out of date: run python tools/models_page.py" if check else "written")
        if not check:
            file.write_text(text, encoding="utf-8")
    return int(check and stale)


if __name__ == "__main__":
    raise SystemExit(main())
