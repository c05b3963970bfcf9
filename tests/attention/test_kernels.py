"""Every attention kernel against the definition of its logits, written slowly in float64, and what each promises."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from attngraft.attention import _kernels, kernel
from attngraft.attention._kernels import KERNELS, Offsets, attend

SCALE = 0.4
UNFUSED = "ignore:.*flex_attention called without torch.compile.*"
GRIDS = [(3, 5), (1, 1), (1, 7), (5, 1)]
Inputs = tuple[Tensor, Tensor, Tensor, Tensor, Tensor]


def reference(q: Tensor, k: Tensor, v: Tensor, by_row: Tensor | None, by_column: Tensor | None, W: int) -> Tensor:
    """Compute out_i = sum_j softmax_j(scale * q_i . (k_j + by_row[dy + H - 1] + by_column[dx + W - 1])) v_j."""
    B, h, _, N = q.shape
    H = N // W
    images = []
    for b in range(B):
        for head in range(h):
            cells = []
            for i in range(N):
                logits = []
                for j in range(N):
                    key = k[b, head, :, j]
                    if by_row is not None and by_column is not None:
                        dy, dx = j // W - i // W, j % W - i % W
                        key = key + by_row[dy + H - 1] + by_column[dx + W - 1]
                    logits.append(SCALE * (q[b, head, :, i] * key).sum())
                weights = torch.stack(logits).exp()
                cells.append((v[b, head] * weights).sum(1) / weights.sum())
            images.append(torch.stack(cells, 1))
    return torch.stack(images).unflatten(0, (B, h))


def inputs(grid: tuple[int, int], batch: int = 1, heads: int = 2, d: int = 3, e: int = 4, **kind: Any) -> Inputs:
    """Draw q, k, v as views of larger tensors, as a convolution's output gives them, and both tables."""
    H, W = grid
    kind = {"dtype": torch.float64, "requires_grad": True} | kind
    leaves = (torch.randn(batch, heads, 2, n, H * W, **kind) for n in (d, d, e))
    q, k, v = (leaf[:, :, 1].detach().requires_grad_(leaf.requires_grad) for leaf in leaves)
    return q, k, v, torch.randn(2 * H - 1, d, **kind), torch.randn(2 * W - 1, d, **kind)


def run(name: str, tensors: Inputs, grid: tuple[int, int], positions: bool = True) -> Tensor:
    q, k, v, by_row, by_column = tensors
    return KERNELS[name](q, k, v, SCALE, Offsets(by_row, by_column, *grid) if positions else None)


@pytest.fixture(params=["one tile", "rows", "part of a row", "one query"])
def tile(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Cut the 3 x 5 map of two pairs in every manner there is."""
    most = {"one tile": 1 << 20, "rows": 2 * 5 * 15, "part of a row": 3 * 15, "one query": 1}[request.param]
    limit = -(-most // 2)  # twice as many are allowed where there are few rows
    monkeypatch.setattr(_kernels, "TILE", limit)
    return request.param


@pytest.fixture(params=["kept", "recomputed"])
def memory(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_kernels, "KEPT_PER_CHANNEL", 100 if request.param == "kept" else 0)


@pytest.mark.filterwarnings(UNFUSED, "ignore:.*grad attribute of a Tensor that is not a leaf.*")
@pytest.mark.parametrize("positions", [True, False], ids=["relative", "none"])
@pytest.mark.parametrize("name", KERNELS)
class TestAgainstTheDefinition:
    @pytest.mark.parametrize("grid", GRIDS, ids=str)
    def test_result(self, name: str, positions: bool, grid: tuple[int, int]) -> None:
        tensors = inputs(grid, batch=2, requires_grad=False)
        tables = tensors[3:] if positions else (None, None)
        expected = reference(*tensors[:3], *tables, grid[1])
        torch.testing.assert_close(run(name, tensors, grid, positions), expected, atol=1e-12, rtol=0)

    def test_gradients(self, name: str, positions: bool, monkeypatch: pytest.MonkeyPatch) -> None:
        if name == "flex":  # PyTorch has the gradient on the CPU, and keeps it from users
            monkeypatch.setattr("torch.nn.attention.flex_attention._validate_device", lambda *_: None)
            monkeypatch.setattr(_kernels, "_require_flex", lambda *_: None)
        tensors = inputs((3, 5))
        wanted = tensors if positions else tensors[:3]
        expected = reference(*tensors[:3], *(tensors[3:] if positions else (None, None)), 5)
        weights = torch.randn_like(expected)
        theirs = torch.autograd.grad(expected, wanted, weights)
        ours = torch.autograd.grad(run(name, tensors, (3, 5), positions), wanted, weights)
        for mine, right in zip(ours, theirs, strict=True):
            torch.testing.assert_close(mine, right, atol=1e-12, rtol=0)

    def test_logits_beyond_the_range_of_exp(self, name: str, positions: bool) -> None:
        tensors = inputs((3, 5), dtype=torch.float32, requires_grad=False)
        tensors = (tensors[0] * 1e3, *tensors[1:])
        assert run(name, tensors, (3, 5), positions).isfinite().all()

    @pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
    def test_half_precision(self, name: str, positions: bool, dtype: torch.dtype) -> None:
        """Sums of 899 weights err by a few roundings; two of the kernels also round logits as large as 5."""
        grid = (31, 29)
        tensors = inputs(grid, d=8, e=8, dtype=torch.float32, requires_grad=False)
        halves = tuple(t.to(dtype) for t in tensors)
        exact = run("factored", tuple(t.double() for t in halves), grid, positions)  # type: ignore[arg-type]
        out = run(name, halves, grid, positions)  # type: ignore[arg-type]
        roundings = {"tiled": 1, "augmented": 3, "sliced": 8, "factored": 8, "flex": 1}[name]
        assert out.dtype == dtype
        assert (out.double() - exact).abs().max() < roundings * torch.finfo(dtype).eps


def tiled_gradcheck(tensors: Inputs, positions: bool) -> bool:
    wanted = tensors if positions else tensors[:3]
    return torch.autograd.gradcheck(
        lambda *given: run("tiled", (*given, *tensors[len(given) :]), (3, 5), positions), wanted, fast_mode=True
    )


@pytest.mark.usefixtures("memory")
@pytest.mark.parametrize("positions", [True, False], ids=["relative", "none"])
def test_every_tiling_gives_the_same(tile: str, positions: bool) -> None:
    tensors = inputs((3, 5), batch=2)
    expected = run("factored", tensors, (3, 5), positions)
    torch.testing.assert_close(run("tiled", tensors, (3, 5), positions), expected, atol=1e-12, rtol=0)
    assert tiled_gradcheck(tensors, positions)


@pytest.mark.parametrize("positions", [True, False], ids=["relative", "none"])
@pytest.mark.parametrize("most", [1, 2 * 2 * 5 * 15, 1 << 20], ids=["a row", "unequal", "one slice"])
def test_every_slicing_gives_the_same(most: int, positions: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_kernels, "SLICE", most)
    tensors = inputs((3, 5), batch=2, requires_grad=False)
    expected = run("factored", tensors, (3, 5), positions)
    torch.testing.assert_close(run("sliced", tensors, (3, 5), positions), expected, atol=1e-12, rtol=0)


@pytest.mark.parametrize("limit", [1, 40, 1000, 4000, 50_000, 1 << 20])
@pytest.mark.parametrize(("pairs", "H", "W"), [(1, 1, 1), (6, 5, 7), (3, 31, 2), (2, 1, 61)])
def test_tiles_cover_each_query_once(monkeypatch: pytest.MonkeyPatch, limit: int, pairs: int, H: int, W: int) -> None:
    monkeypatch.setattr(_kernels, "TILE", limit)
    seen = torch.zeros(pairs, H * W)
    for tile in _kernels._tiles(pairs, H, W):
        part = seen[tile.pairs, tile.cells]
        part += 1
        assert part.numel() * H * W <= max(limit if tile.rows >= _kernels.ROWS else 2 * limit, H * W)
        assert part.shape[1] == tile.rows * tile.columns
        assert tile.cells.start == tile.row * W + tile.column
    assert (seen == 1).all()


class LargestTensor(TorchDispatchMode):
    """Notes the most elements that any operator gave back."""

    def __init__(self) -> None:
        super().__init__()
        self.elements = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        sizes = (t.untyped_storage().nbytes() // t.element_size() for t in tree_leaves(out) if isinstance(t, Tensor))
        self.elements = max(self.elements, *sizes, 0)
        return out


@pytest.mark.parametrize(("name", "spares"), [("tiled", True), ("augmented", True), ("factored", False)])
def test_memory_of_a_training_step(monkeypatch: pytest.MonkeyPatch, name: str, spares: bool) -> None:
    grid = (31, 29)
    cells = 31 * 29
    monkeypatch.setattr(_kernels, "TILE", 32 * cells)
    tensors = inputs(grid, heads=1, d=8, e=8, dtype=torch.float32)
    with LargestTensor() as largest:
        run(name, tensors, grid).sum().backward()
    assert (largest.elements < cells**2 / 8) is spares


def test_autocast_keeps_logits_in_single_precision() -> None:
    tensors = inputs((5, 7), d=8, e=8, dtype=torch.float32)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        out = run("tiled", tensors, (5, 7))
        gradients = torch.autograd.grad(out.sum(), tensors)
    torch.testing.assert_close(out, run("factored", tensors, (5, 7)), atol=1e-5, rtol=1e-5)
    assert all(gradient.dtype == torch.float32 for gradient in gradients)


def test_a_second_derivative_asks_for_another_kernel() -> None:
    q, k, v, *_ = inputs((3, 5))
    with pytest.raises(RuntimeError, match=r"first derivatives only.*kernel\('factored'\)"):
        torch.autograd.grad(attend(q, k, v, scale=1.0).sum(), q, create_graph=True)
    with kernel("factored"):
        (first,) = torch.autograd.grad(attend(q, k, v, scale=1.0).sum(), q, create_graph=True)
    first.sum().backward()


class TestFlex:
    def test_refuses_a_gradient_on_the_cpu(self) -> None:
        *fixed, by_row, by_column = inputs((3, 5), requires_grad=False)
        tensors = (*fixed, by_row.requires_grad_(), by_column)
        with pytest.raises(ValueError, match=r"has no gradient on the CPU; leave out .*kernel\('flex'\) there"):
            run("flex", tensors, (3, 5))

    def test_refuses_a_device_without_it(self) -> None:
        q = torch.empty(1, 2, 4, 6, device="meta")
        with pytest.raises(ValueError, match="does not run on meta"), kernel("flex"):
            attend(q, q, q, scale=1.0)

    @pytest.mark.filterwarnings("ignore:.*torch.jit.trace")
    def test_refuses_to_be_traced(self) -> None:
        q = torch.randn(1, 2, 4, 6)
        with pytest.raises(ValueError, match="cannot be traced"), kernel("flex"):
            torch.jit.trace(lambda q: attend(q, q, q, scale=1.0), (q,))

    @pytest.mark.filterwarnings(UNFUSED)
    def test_stays_outside_of_a_compiled_graph(self) -> None:
        sizes = [(3, 5), (5, 4), (6, 6)]

        def twice(q: Tensor, k: Tensor, v: Tensor, offsets: Offsets) -> Tensor:
            return 2 * attend(q, k, v, scale=SCALE, offsets=offsets)

        compiled = torch.compile(twice, backend="eager")
        for grid in sizes:
            q, k, v, *tables = inputs(grid, requires_grad=False)
            offsets = Offsets(*tables, *grid)
            with kernel("flex"):
                torch.testing.assert_close(compiled(q, k, v, offsets), twice(q, k, v, offsets), atol=0, rtol=0)


class TestChoice:
    @pytest.fixture
    def taken(self, monkeypatch: pytest.MonkeyPatch) -> list[str]:
        """Note which kernels run."""
        names: list[str] = []

        def noting(name: str, run: Callable[..., Tensor]) -> Callable[..., Tensor]:
            return lambda *args: (names.append(name), run(*args))[1]

        monkeypatch.setattr(_kernels, "KERNELS", {name: noting(name, run) for name, run in KERNELS.items()})
        return names

    @pytest.mark.filterwarnings("ignore:.*torch.jit.trace")
    def test_suits_the_moment(self, taken: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
        q = torch.randn(1, 2, 4, 6)
        attend(q, q, q, scale=1.0)
        with torch.no_grad():
            torch.jit.trace(lambda q: attend(q, q, q, scale=1.0), (q,), check_trace=False)
        assert taken == ["tiled", "sliced"]
        assert _kernels._suited(torch.device("cuda")) == "augmented"
        monkeypatch.setattr(_kernels, "is_tracing", lambda: True)
        assert _kernels._suited(torch.device("cuda")) == "factored"

    def test_can_be_forced_and_is_given_back(self, taken: list[str]) -> None:
        q = torch.randn(1, 2, 4, 6)
        with kernel("augmented"):
            attend(q, q, q, scale=1.0)
            with kernel("factored"):
                attend(q, q, q, scale=1.0)
            attend(q, q, q, scale=1.0)
        with pytest.raises(ZeroDivisionError), kernel("factored"):
            _ = 1 / 0
        attend(q, q, q, scale=1.0)
        assert taken == ["augmented", "factored", "augmented", "tiled"]

    def test_unknown_name(self) -> None:
        with (
            pytest.raises(ValueError, match="'tiled', 'augmented', 'sliced', 'factored', 'flex', got 'flash'"),
            kernel("flash"),
        ):
            pass
