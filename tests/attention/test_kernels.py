"""Every attention kernel against the definition of its logits, written slowly in float64, and what each promises."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from attngraft._core.processor import Processor
from attngraft.attention import _kernel_cpu, _kernel_flex, _kernel_stock, _kernels, chosen_kernel, kernel, taken_kernels
from attngraft.attention._kernels import KERNELS, attend
from attngraft.attention._offsets import Offsets

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
    monkeypatch.setattr(_kernel_cpu, "TILE", limit)
    monkeypatch.setattr(_kernel_cpu, "BLOCK", most)
    return request.param


@pytest.fixture(params=["kept", "recomputed"])
def memory(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_kernel_cpu, "KEPT_PER_CHANNEL", 100 if request.param == "kept" else 0)


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
            monkeypatch.setattr(_kernel_flex, "_require_flex", lambda *_: None)
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
        roundings = {"tiled": 1, "blocked": 1, "augmented": 3, "sliced": 8, "factored": 8, "flex": 1}[name]
        assert out.dtype == dtype
        assert (out.double() - exact).abs().max() < roundings * torch.finfo(dtype).eps


def same_as_factored(name: str, positions: bool) -> None:
    tensors = inputs((3, 5), batch=2)
    expected = run("factored", tensors, (3, 5), positions)
    torch.testing.assert_close(run(name, tensors, (3, 5), positions), expected, atol=1e-12, rtol=0)
    wanted = tensors if positions else tensors[:3]
    assert torch.autograd.gradcheck(
        lambda *given: run(name, (*given, *tensors[len(given) :]), (3, 5), positions), wanted, fast_mode=True
    )


@pytest.mark.usefixtures("memory", "tile")
@pytest.mark.parametrize("positions", [True, False], ids=["relative", "none"])
def test_every_tiling_gives_the_same(positions: bool) -> None:
    same_as_factored("tiled", positions)


@pytest.mark.parametrize("positions", [True, False], ids=["relative", "none"])
@pytest.mark.parametrize("most", [1, 2 * 2 * 5 * 15, 1 << 20], ids=["a row", "unequal", "one slice"])
def test_every_slicing_gives_the_same(most: int, positions: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_kernel_stock, "SLICE", most)
    tensors = inputs((3, 5), batch=2, requires_grad=False)
    expected = run("factored", tensors, (3, 5), positions)
    torch.testing.assert_close(run("sliced", tensors, (3, 5), positions), expected, atol=1e-12, rtol=0)


@pytest.mark.usefixtures("tile")
def test_every_cut_into_blocks_gives_the_same() -> None:
    same_as_factored("blocked", positions=True)


CUTS = [(1, 1, 1), (6, 5, 7), (3, 31, 2), (2, 1, 61)]
LIMITS = pytest.mark.parametrize("limit", [1, 40, 1000, 4000, 50_000, 1 << 20])


@LIMITS
@pytest.mark.parametrize(("pairs", "H", "W"), CUTS)
def test_tiles_cover_each_query_once(monkeypatch: pytest.MonkeyPatch, limit: int, pairs: int, H: int, W: int) -> None:
    monkeypatch.setattr(_kernel_cpu, "TILE", limit)
    tiles = list(_kernel_cpu._tiles(pairs, H, W))
    require_a_partition(tiles, pairs, H, W)
    assert all(logits(t, H * W) <= max(limit if t.rows >= _kernel_cpu.ROWS else 2 * limit, H * W) for t in tiles)


@LIMITS
@pytest.mark.parametrize(("pairs", "H", "W"), CUTS)
def test_blocks_cover_each_query_once(monkeypatch: pytest.MonkeyPatch, limit: int, pairs: int, H: int, W: int) -> None:
    monkeypatch.setattr(_kernel_cpu, "BLOCK", limit)
    blocks = list(_kernel_cpu._blocks(pairs, H, W))
    require_a_partition(blocks, pairs, H, W)
    assert all(logits(block, H * W) <= max(limit, H * W) for block in blocks)
    assert all(block.rows <= _kernel_cpu.ROWS for block in blocks)


def logits(tile: _kernel_cpu._Tile, N: int) -> int:
    return (tile.pairs.stop - tile.pairs.start) * tile.rows * tile.columns * N


def require_a_partition(tiles: list[_kernel_cpu._Tile], pairs: int, H: int, W: int) -> None:
    seen = torch.zeros(pairs, H * W)
    for tile in tiles:
        part = seen[tile.pairs, tile.cells]
        part += 1
        assert part.shape[1] == tile.rows * tile.columns
        assert tile.cells.start == tile.row * W + tile.column
        assert logits(tile, 1) <= logits(tiles[0], 1)  # the first sizes the memory for all
    assert (seen == 1).all()


def error(found: Tensor, right: Tensor) -> float:
    """Return the length of the difference, by the length of what is right."""
    return float((found.double() - right).norm() / right.norm())


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


@pytest.mark.parametrize(
    ("name", "spares"), [("tiled", True), ("blocked", True), ("augmented", True), ("factored", False)]
)
def test_memory_of_a_training_step(monkeypatch: pytest.MonkeyPatch, name: str, spares: bool) -> None:
    grid = (31, 29)
    cells = 31 * 29
    monkeypatch.setattr(_kernel_cpu, "TILE", 32 * cells)
    monkeypatch.setattr(_kernel_cpu, "BLOCK", 64 * cells)
    tensors = inputs(grid, heads=1, d=8, e=8, dtype=torch.float32)
    with LargestTensor() as largest:
        run(name, tensors, grid).sum().backward()
    assert (largest.elements < cells**2 / 8) is spares


@pytest.mark.parametrize("name", ["tiled", "blocked"])
def test_autocast_keeps_logits_in_single_precision(name: str) -> None:
    tensors = inputs((5, 7), d=8, e=8, dtype=torch.float32)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        out = run(name, tensors, (5, 7))
        gradients = torch.autograd.grad(out.sum(), tensors)
    torch.testing.assert_close(out, run("factored", tensors, (5, 7)), atol=1e-5, rtol=1e-5)
    assert all(gradient.dtype == torch.float32 for gradient in gradients)


@pytest.mark.parametrize("positions", [True, False], ids=["relative", "none"])
@pytest.mark.parametrize("name", ["tiled", "blocked"])
def test_a_second_derivative_asks_for_another_kernel(name: str, positions: bool) -> None:
    q, k, v, *tables = inputs((3, 5))
    offsets = Offsets(*tables, 3, 5) if positions else None
    with pytest.raises(RuntimeError, match=r"first derivatives only.*kernel\('factored'\)"), kernel(name):
        torch.autograd.grad(attend(q, k, v, scale=1.0, offsets=offsets).sum(), q, create_graph=True)
    with kernel("factored"):
        (first,) = torch.autograd.grad(attend(q, k, v, scale=1.0, offsets=offsets).sum(), q, create_graph=True)
    first.sum().backward()


@pytest.mark.parametrize("positions", [True, False], ids=["relative", "none"])
class TestBlocked:
    @pytest.mark.parametrize(("d", "e"), [(3, 4), (5, 2)])
    def test_long_maps_and_a_gradient_that_does_not_lie_together(self, positions: bool, d: int, e: int) -> None:
        """More queries than the fused kernel takes at once, keys in several of its parts, unequal widths."""
        grid = (27, 31)
        tensors = inputs(grid, batch=2, d=d, e=e, dtype=torch.float32)
        wanted = tensors if positions else tensors[:3]
        exact = tuple(t.detach().double().requires_grad_() for t in tensors)
        out, right = run("blocked", tensors, grid, positions), run("factored", exact, grid, positions)
        torch.testing.assert_close(out.double(), right, atol=2e-6, rtol=0)
        d_out = torch.randn(2, 2, 27 * 31, e).transpose(2, 3)
        ours = torch.autograd.grad(out, wanted, d_out)
        theirs = torch.autograd.grad(right, exact[: len(wanted)], d_out.double())
        for mine, correct in zip(ours, theirs, strict=True):
            torch.testing.assert_close(mine.double(), correct, atol=2e-6 * correct.abs().max().item(), rtol=1e-4)

    def test_products_of_bfloat16(self, positions: bool) -> None:
        """Weights rounded once and outputs once; gradients by the length of what they should be."""
        grid = (31, 29)
        tensors = tuple(t.detach().bfloat16().requires_grad_() for t in inputs(grid, d=8, e=8))
        wanted = tensors if positions else tensors[:3]
        exact = tuple(t.detach().double().requires_grad_() for t in tensors)
        q, k, v, *tables = tensors
        offsets = Offsets(*tables, *grid) if positions else None
        out = _kernel_cpu.blocked(q, k, v, SCALE, offsets, half=True)
        right = run("factored", exact, grid, positions)
        eps = torch.finfo(torch.bfloat16).eps
        assert out.dtype == torch.bfloat16
        assert (out.double() - right).abs().max() < 2 * eps
        d_out = torch.randn_like(right).bfloat16()
        ours = torch.autograd.grad(out, wanted, d_out)
        theirs = torch.autograd.grad(right, exact[: len(wanted)], d_out.double())
        assert all(gradient.dtype == torch.bfloat16 for gradient in ours)
        assert [error(*pair) < 2 * eps for pair in zip(ours, theirs, strict=True)] == [True] * len(wanted)

    @pytest.mark.parametrize("amx", [True, False])
    def test_works_in_bfloat16_where_the_cpu_has_amx(
        self, monkeypatch: pytest.MonkeyPatch, positions: bool, amx: bool
    ) -> None:
        given: list[set[torch.dtype]] = []

        def noting(q: Tensor, k: Tensor, v: Tensor, **more: Any) -> Any:
            given.append({q.dtype, k.dtype, v.dtype})
            return fused(q, k, v, **more)

        fused = _kernel_cpu._fused
        monkeypatch.setattr(_kernel_cpu, "_fused", noting)
        monkeypatch.setattr(_kernel_cpu, "processor", lambda: Processor("GenuineIntel", "AVX512", amx))
        tensors = inputs((3, 5), dtype=torch.bfloat16, requires_grad=False)
        mixed = (tensors[0].float(), *tensors[1:])
        for q, k, v, *tables in (tensors, mixed, tuple(t.half() for t in tensors), tuple(t.float() for t in tensors)):
            out = run("blocked", (q, k, v, *tables), (3, 5), positions)  # type: ignore[arg-type]
            assert out.dtype == v.dtype
        assert given == [{torch.bfloat16 if amx else torch.float32}, *[{torch.float32}] * 3]

    def test_refuses_what_it_cannot(self, positions: bool) -> None:
        offsets = Offsets(torch.randn(3, 4), torch.randn(5, 4), 2, 3) if positions else None

        def forced(q: Tensor) -> Tensor:
            with kernel("blocked"):
                return attend(q, q, q, scale=1.0, offsets=offsets)

        left_out = r"; leave out attngraft.attention.kernel\('blocked'\) there"
        with pytest.raises(ValueError, match=f"does not run on meta{left_out}"):
            forced(torch.empty(1, 2, 4, 6, device="meta"))
        with pytest.raises(ValueError, match=f"cannot be traced or exported{left_out}"):
            torch.jit.trace(forced, (torch.randn(1, 2, 4, 6),))

    def test_stays_outside_of_a_compiled_graph(self, positions: bool) -> None:
        def twice(q: Tensor, k: Tensor, v: Tensor, *tables: Tensor) -> Tensor:
            return 2 * attend(q, k, v, scale=SCALE, offsets=Offsets(*tables, 3, 5) if positions else None)

        tensors = inputs((3, 5), requires_grad=False)
        with kernel("blocked"):
            compiled = torch.compile(twice, backend="eager")
            torch.testing.assert_close(compiled(*tensors), twice(*tensors), atol=0, rtol=0)
            torch.compiler.reset()
            with pytest.raises(Exception, match="does not belong in a compiled graph"):
                torch.compile(twice, backend="eager", fullgraph=True)(*tensors)


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
        monkeypatch.setattr(_kernels, "is_tracing", lambda: True)
        assert chosen_kernel((20, 20), 64, device="cuda").kernel == "factored"

    @pytest.mark.parametrize(
        ("maker", "vectors", "relative", "none"),
        [
            ("GenuineIntel", "AVX512", "blocked", "blocked"),
            ("AuthenticAMD", "AVX512", "tiled", "blocked"),
            ("GenuineIntel", "AVX2", "tiled", "tiled"),
            ("AuthenticAMD", "AVX2", "tiled", "tiled"),
            ("", "AVX512", "tiled", "tiled"),
            ("", "DEFAULT", "tiled", "tiled"),
        ],
    )
    def test_suits_the_processor(
        self, monkeypatch: pytest.MonkeyPatch, taken: list[str], maker: str, vectors: str, relative: str, none: str
    ) -> None:
        monkeypatch.setattr(_kernels, "processor", lambda: Processor(maker, vectors, amx=False))
        q, k, v, *tables = inputs((5, 7), d=4, dtype=torch.float32)
        for offsets, expected in ((Offsets(*tables, 5, 7), relative), (None, none)):
            attend(q, k, v, scale=SCALE, offsets=offsets)
            choice = chosen_kernel((5, 7), 4, positions=offsets is not None)
            assert [choice.kernel] == taken[-1:] == [expected]
            assert choice.reason
        small = chosen_kernel((4, 8), 4), chosen_kernel((4, 8), 4, positions=False)
        unequal = chosen_kernel((5, 7), 4, value_dim=8), chosen_kernel((5, 7), 4, value_dim=8, positions=False)
        assert {choice.kernel for choice in (*small, *unequal)} == {"tiled"}

    def test_suits_the_device(self) -> None:
        names = {device: chosen_kernel((80, 80), 32, device=device).kernel for device in ("cuda", "mps", "meta")}
        assert names == {"cuda": "augmented", "mps": "augmented", "meta": "tiled"}

    def test_is_noted_once_for_each_reason(self) -> None:
        q = torch.randn(1, 2, 4, 6)
        with taken_kernels() as outer:
            attend(q, q, q, scale=1.0)
            with taken_kernels() as inner, kernel("augmented"):
                attend(q, q, q, scale=1.0)
                attend(q, q, q, scale=1.0)
            attend(q, q, q, scale=1.0)
        attend(q, q, q, scale=1.0)
        assert [choice.kernel for choice in inner] == ["augmented"]
        assert outer == [chosen_kernel((2, 3), 4, positions=False), *inner]

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
            pytest.raises(ValueError, match="'tiled', 'blocked', .*, 'factored', 'flex', got 'flash'"),
            kernel("flash"),
        ):
            pass
