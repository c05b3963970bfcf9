"""The usual public forms of five mechanisms, and how much faster the zoo computes the same numbers.

Each class below says with stock layers what blog posts and papers' repositories say, written from the equations: whole
convolutions where only a projection of their result is used, `unfold` for windows, adaptive pools, normalised copies.
They are what a user would paste in, and therefore what the zoo must beat.

    python benchmarks/circulated.py --channels 256 --size 40 --batch 4

prints, for each, the time of the usual form divided by the time of the zoo's, forward and forward+backward. The two
run in turn on one thread, in CPU time, and the median of the ratios is taken, so that a busy machine slows both.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from attngraft.attention import EMA, MLCA, MSDA, FocusedLinearAttention, PolarizedSelfAttention


class UsualMSDA(nn.Module):
    """Sliding-window dilated attention by `unfold`: a copy of keys and values for every cell of the window."""

    def __init__(self, channels: int, heads: int, dilations: tuple[int, ...], kernel_size: int = 3) -> None:
        super().__init__()
        self.heads, self.dilations, self.kernel_size = heads, dilations, kernel_size
        self.qkv = nn.Conv2d(channels, 3 * channels, 1)
        self.proj = nn.Linear(channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        B, C, H, W = x.shape
        n, k = len(self.dilations), self.kernel_size
        d = C // self.heads
        qkv = self.qkv(x).reshape(B, 3, n, C // n, H, W).permute(2, 1, 0, 3, 4, 5)  # (n, 3, B, C/n, H, W)
        out = []
        for (q, keys, values), dilation in zip(qkv, self.dilations, strict=True):
            window = {"kernel_size": k, "dilation": dilation, "padding": dilation * (k // 2)}
            q = q.reshape(B, -1, d, 1, H * W).permute(0, 1, 4, 3, 2)  # (B, h/n, N, 1, d)
            keys = F.unfold(keys, **window).reshape(B, -1, d, k * k, H * W).permute(0, 1, 4, 2, 3)  # (B, h/n, N, d, k²)
            values = F.unfold(values, **window).reshape(B, -1, d, k * k, H * W).permute(0, 1, 4, 3, 2)  # (.., N, k², d)
            mixed = (q @ keys * d**-0.5).softmax(-1) @ values  # (B, h/n, N, 1, d)
            out.append(mixed.transpose(1, 2).reshape(B, H, W, C // n))
        return self.proj(torch.cat(out, -1)).permute(0, 3, 1, 2)


class UsualEMA(nn.Module):
    """Cross-spatial attention with its 3x3 convolution and its normalised map written out in full."""

    def __init__(self, channels: int, groups: int = 8) -> None:
        super().__init__()
        n = channels // groups
        self.groups = groups
        self.pool_h = nn.AdaptiveAvgPool2d((None, 1))
        self.pool_w = nn.AdaptiveAvgPool2d((1, None))
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.conv1x1 = nn.Conv2d(n, n, 1)
        self.conv3x3 = nn.Conv2d(n, n, 3, padding=1)
        self.gn = nn.GroupNorm(n, n)

    def forward(self, x: Tensor) -> Tensor:
        B, C, H, W = x.shape
        x = x.reshape(B * self.groups, -1, H, W)
        strips = torch.cat([self.pool_h(x), self.pool_w(x).transpose(2, 3)], 2)
        rows, columns = self.conv1x1(strips).split([H, W], 2)
        first = self.gn(x * rows.sigmoid() * columns.transpose(2, 3).sigmoid())
        second = self.conv3x3(x)
        first_weight = self.pool(first).flatten(2).transpose(1, 2).softmax(-1)  # (B·g, 1, n)
        second_weight = self.pool(second).flatten(2).transpose(1, 2).softmax(-1)
        logits = first_weight @ second.flatten(2) + second_weight @ first.flatten(2)  # (B·g, 1, N)
        return (x * logits.reshape(-1, 1, H, W).sigmoid()).reshape(B, C, H, W)


class UsualMLCA(nn.Module):
    """Local and global channel gates, brought to full size by an adaptive pool upwards."""

    def __init__(self, channels: int, local_size: int = 5, kernel_size: int = 5) -> None:
        super().__init__()
        self.local_size = local_size
        self.local_pool = nn.AdaptiveAvgPool2d(local_size)
        self.global_pool = nn.AdaptiveAvgPool2d(1)
        self.conv = nn.Conv1d(1, 1, kernel_size, padding=kernel_size // 2, bias=False)
        self.conv_local = nn.Conv1d(1, 1, kernel_size, padding=kernel_size // 2, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        B, C, H, W = x.shape
        s = self.local_size
        local = self.local_pool(x)
        overall = self.global_pool(local)
        local = self.conv_local(local.flatten(2).transpose(1, 2).reshape(B, 1, -1)).reshape(B, s * s, C)
        overall = self.conv(overall.reshape(B, 1, C)).transpose(1, 2).unsqueeze(-1).sigmoid()  # (B, C, 1, 1)
        local = local.transpose(1, 2).reshape(B, C, s, s).sigmoid()
        gate = F.adaptive_avg_pool2d(0.5 * F.adaptive_avg_pool2d(overall, s) + 0.5 * local, (H, W))
        return x * gate


class UsualFocusedLinear(nn.Module):
    """Focused linear attention on tokens (B, N, C), as vision transformers write it."""

    def __init__(self, channels: int, map_size: tuple[int, int], heads: int = 8, kernel_size: int = 5) -> None:
        super().__init__()
        d = channels // heads
        self.heads = heads
        self.qkv = nn.Linear(channels, 3 * channels)
        self.proj = nn.Linear(channels, channels)
        self.scale = nn.Parameter(torch.zeros(1, 1, channels))
        self.positions = nn.Parameter(torch.zeros(1, map_size[0] * map_size[1], channels))
        self.dwc = nn.Conv2d(d, d, kernel_size, padding=kernel_size // 2, groups=d)

    def forward(self, x: Tensor) -> Tensor:
        B, C, H, W = x.shape
        N = H * W
        q, k, v = self.qkv(x.flatten(2).transpose(1, 2)).chunk(3, -1)  # (B, N, C)
        scale = F.softplus(self.scale)
        q, k = self.focus(q, scale), self.focus(k + self.positions, scale)
        q, k, v = (t.reshape(B, N, self.heads, -1).transpose(1, 2) for t in (q, k, v))  # (B, h, N, d)
        inverse = 1 / (q @ k.mean(2, keepdim=True).transpose(2, 3) + 1e-6)  # (B, h, N, 1)
        mixed = q @ ((k.transpose(2, 3) * N**-0.5) @ (v * N**-0.5)) * inverse  # (B, h, N, d)
        mixed = mixed.transpose(1, 2).reshape(B, N, C)
        local = self.dwc(v.reshape(B * self.heads, H, W, -1).permute(0, 3, 1, 2))
        mixed = mixed + local.reshape(B, C, N).transpose(1, 2)
        return self.proj(mixed).transpose(1, 2).reshape(B, C, H, W)

    @staticmethod
    def focus(x: Tensor, scale: Tensor) -> Tensor:
        x = (x.relu() + 1e-6) / scale
        length = x.norm(dim=-1, keepdim=True)
        x = x**3
        return x / x.norm(dim=-1, keepdim=True) * length


class UsualPolarized(nn.Module):
    """Channel and spatial gates from three half-width convolutions over the whole map."""

    def __init__(self, channels: int, order: str) -> None:
        super().__init__()
        half = channels // 2
        self.order = order
        self.channel_q = nn.Conv2d(channels, 1, 1)
        self.channel_v = nn.Conv2d(channels, half, 1)
        self.channel_z = nn.Conv2d(half, channels, 1)
        self.norm = nn.LayerNorm(channels)
        self.spatial_q = nn.Conv2d(channels, half, 1)
        self.spatial_v = nn.Conv2d(channels, half, 1)

    def channel_gate(self, x: Tensor) -> Tensor:
        weight = self.channel_q(x).flatten(2).transpose(1, 2).softmax(1)  # (B, N, 1)
        pooled = (self.channel_v(x).flatten(2) @ weight).unsqueeze(-1)  # (B, C/2, 1, 1)
        return self.norm(self.channel_z(pooled).flatten(1)).sigmoid()[:, :, None, None]

    def spatial_gate(self, x: Tensor) -> Tensor:
        weight = F.adaptive_avg_pool2d(self.spatial_q(x), 1).flatten(2).transpose(1, 2).softmax(-1)  # (B, 1, C/2)
        logits = weight @ self.spatial_v(x).flatten(2)  # (B, 1, N)
        return logits.reshape(-1, 1, *x.shape[2:]).sigmoid()

    def forward(self, x: Tensor) -> Tensor:
        gated = self.channel_gate(x) * x
        if self.order == "parallel":
            return gated + self.spatial_gate(x) * x
        return self.spatial_gate(gated) * gated


Pair = Callable[[int, int], tuple[nn.Module, nn.Module]]
Call = Callable[[nn.Module, Tensor], None]


def msda(channels: int, size: int) -> tuple[nn.Module, nn.Module]:
    ours = MSDA(channels, **MSDA.fit(channels), border="zero")
    return UsualMSDA(channels, ours.heads, ours.dilations), ours


def focused_linear(channels: int, size: int) -> tuple[nn.Module, nn.Module]:
    return UsualFocusedLinear(channels, (size, size)), FocusedLinearAttention(channels, heads=8, map_size=(size, size))


def mlca(channels: int, size: int) -> tuple[nn.Module, nn.Module]:
    ours = MLCA(channels)
    return UsualMLCA(channels, kernel_size=ours.conv.kernel_size[0]), ours


PAIRS: dict[str, Pair] = {
    "MSDA": msda,
    "EMA": lambda channels, size: (UsualEMA(channels), EMA(channels)),
    "MLCA": mlca,
    "focused linear": focused_linear,
    "polarized, parallel": lambda c, size: (UsualPolarized(c, "parallel"), PolarizedSelfAttention(c)),
    "polarized, sequential": lambda c, size: (
        UsualPolarized(c, "sequential"),
        PolarizedSelfAttention(c, order="sequential"),
    ),
}


def require_equal(usual: nn.Module, ours: nn.Module, x: Tensor) -> None:
    """Give both the same weights and stop unless they compute the same numbers."""
    with torch.no_grad():
        for theirs, parameter in zip(usual.parameters(), ours.parameters(), strict=True):
            theirs.copy_(parameter.reshape(theirs.shape))  # position tables, laid out differently, are zero
        torch.testing.assert_close(usual(x), ours(x), atol=1e-4, rtol=1e-4)


def forward(module: nn.Module, x: Tensor) -> None:
    with torch.inference_mode():
        module(x)


def forward_backward(module: nn.Module, x: Tensor) -> None:
    module.zero_grad()
    module(x.detach().requires_grad_()).sum().backward()


def ratio(usual: nn.Module, ours: nn.Module, call: Call, x: Tensor, rounds: int) -> float:
    """Return the median over the rounds of the usual form's time divided by ours."""
    ratios = []
    for _ in range(rounds + 2):
        start = time.process_time()
        call(usual, x)
        middle = time.process_time()
        call(ours, x)
        ratios.append((middle - start) / (time.process_time() - middle))
    return statistics.median(ratios[2:])  # the first two rounds warm the caches up


def main() -> None:
    parser = argparse.ArgumentParser(description="time the usual public forms against the zoo's")
    parser.add_argument("--channels", type=int, default=256)
    parser.add_argument("--size", type=int, default=40, help="height and width of the map")
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--only", default="", help="names that contain this")
    options = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    x = torch.randn(options.batch, options.channels, options.size, options.size)
    print(f"{'usual time / our time':<24}{'forward':>10}{'forward+backward':>20}")
    for name, make in PAIRS.items():
        if options.only not in name:
            continue
        usual, ours = make(options.channels, options.size)
        require_equal(usual, ours, x)
        speed = [ratio(usual, ours, call, x, options.rounds) for call in (forward, forward_backward)]
        print(f"{name:<24}{speed[0]:>9.2f}x{speed[1]:>19.2f}x", flush=True)


if __name__ == "__main__":
    main()
