"""Reference implementations of the zoo's mechanisms, as usually published: from the equations, with stock layers.

They say what blog posts and papers' repositories say: whole convolutions where only a projection of their result is
used, `unfold` for windows, adaptive pools, normalised copies, all N x N weights of an attention at once. They are what
a user would paste in, and therefore what the zoo must not be slower than.

Those with a layout of their own are classes. The others are functions of one of our modules and an input: they compute
with its weights what it computes, in the usual way.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Usual(nn.Module):
    """A reference implementation that computes with the weights of one of our modules."""

    def __init__(self, ours: nn.Module, form: Callable[[nn.Module, Tensor], Tensor]) -> None:
        super().__init__()
        self.ours, self.form = ours, form

    def forward(self, x: Tensor) -> Tensor:
        return self.form(self.ours, x)


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


def se(m: nn.Module, x: Tensor) -> Tensor:
    B, C = x.shape[:2]
    pooled = F.adaptive_avg_pool2d(x, 1).view(B, C)
    gate = torch.sigmoid(m.excite(F.relu(m.squeeze(pooled)))).view(B, C, 1, 1)
    return x * gate.expand_as(x)


def eca(m: nn.Module, x: Tensor) -> Tensor:
    pooled = F.adaptive_avg_pool2d(x, 1).squeeze(-1).transpose(-1, -2)
    return x * m.conv(pooled).transpose(-1, -2).unsqueeze(-1).sigmoid().expand_as(x)


def cbam(m: nn.Module, x: Tensor) -> Tensor:
    average, largest = F.adaptive_avg_pool2d(x, 1), F.adaptive_max_pool2d(x, 1)
    x = x * (m.mlp(average.flatten(1)) + m.mlp(largest.flatten(1))).sigmoid()[:, :, None, None]
    pooled = torch.cat([x.max(1, keepdim=True).values, x.mean(1, keepdim=True)], 1)
    return x * m.spatial(pooled)


def triplet(m: nn.Module, x: Tensor) -> Tensor:
    def branch(gate: nn.Module, turned: Tensor) -> Tensor:
        pooled = torch.cat([turned.max(1, keepdim=True).values, turned.mean(1, keepdim=True)], 1)
        return turned * gate(pooled)

    cw = branch(m.channel_width, x.permute(0, 2, 1, 3).contiguous()).permute(0, 2, 1, 3).contiguous()
    hc = branch(m.height_channel, x.permute(0, 3, 2, 1).contiguous()).permute(0, 3, 2, 1).contiguous()
    return (branch(m.height_width, x) + cw + hc) / 3


def coordinate(m: nn.Module, x: Tensor) -> Tensor:
    H, W = x.shape[2:]
    strips = torch.cat(
        [F.adaptive_avg_pool2d(x, (None, 1)), F.adaptive_avg_pool2d(x, (1, None)).permute(0, 1, 3, 2)], 2
    )
    strips = m.norm(m.squeeze(strips))
    rows, columns = torch.split(strips * F.relu6(strips + 3) / 6, [H, W], 2)
    return x * m.columns(columns.permute(0, 1, 3, 2)).sigmoid() * m.rows(rows).sigmoid()


def simam(m: nn.Module, x: Tensor) -> Tensor:
    n = x.shape[2] * x.shape[3]
    squares = (x - x.mean(dim=[2, 3], keepdim=True)).pow(2)
    energy = squares / (4 * (squares.sum(dim=[2, 3], keepdim=True) / n + m.e_lambda)) + 0.5
    return x * torch.sigmoid(energy)


def shuffle(m: nn.Module, x: Tensor) -> Tensor:
    B, _, H, W = x.shape
    channel, cell = x.reshape(B * m.groups, -1, H, W).chunk(2, 1)
    pooled = F.adaptive_avg_pool2d(channel, 1)
    channel = channel * torch.sigmoid(m.channel_weight[:, None, None] * pooled + m.channel_bias[:, None, None])
    normed = F.group_norm(cell, m.norm.num_groups, m.norm.weight, m.norm.bias, m.norm.eps)
    cell = cell * torch.sigmoid(m.cell_weight[:, None, None] * normed + m.cell_bias[:, None, None])
    out = torch.cat([channel, cell], 1).reshape(B, -1, H, W)
    return out.reshape(B, 2, -1, H, W).permute(0, 2, 1, 3, 4).reshape(B, -1, H, W)


def nam(m: nn.Module, x: Tensor) -> Tensor:
    normed = m.norm(x)
    share = m.norm.weight.abs() / m.norm.weight.abs().sum()
    weighted = normed.permute(0, 2, 3, 1).contiguous().mul(share).permute(0, 3, 1, 2).contiguous()
    return torch.sigmoid(weighted) * x


def ela(m: nn.Module, x: Tensor) -> Tensor:
    def gate(strip: Tensor) -> Tensor:
        return torch.sigmoid(F.group_norm(m.conv(strip), m.norm_groups, m.norm.weight, m.norm.bias, m.norm.eps))

    B, C, H, W = x.shape
    rows = gate(x.mean(3, keepdim=True).view(B, C, H)).view(B, C, H, 1)
    columns = gate(x.mean(2, keepdim=True).view(B, C, W)).view(B, C, 1, W)
    return x * rows * columns


def global_context(m: nn.Module, x: Tensor) -> Tensor:
    B, C, H, W = x.shape
    weights = m.mask(x).view(B, 1, H * W).softmax(2).unsqueeze(-1)
    context = (x.view(B, C, H * W).unsqueeze(1) @ weights).view(B, C)
    return x + m.transform(context).view(B, C, 1, 1)


def attend(q: Tensor, k: Tensor, v: Tensor, scale: float) -> Tensor:
    return (q @ k.transpose(-2, -1) * scale).softmax(-1) @ v


def heads(tokens: Tensor, count: int) -> Tensor:
    B, N, C = tokens.shape
    return tokens.reshape(B, N, count, C // count).permute(0, 2, 1, 3)


def multi_head(m: nn.Module, x: Tensor) -> Tensor:
    q, k, v = (heads(t, m.heads) for t in m.qkv(x.flatten(2).transpose(1, 2)).chunk(3, 2))
    out = attend(q, k, v, q.shape[-1] ** -0.5).transpose(1, 2).flatten(2)
    return m.proj(out).transpose(1, 2).reshape(x.shape)


def non_local(m: nn.Module, x: Tensor) -> Tensor:
    theta, phi, g = m.theta_phi_g(x.flatten(2).transpose(1, 2)).chunk(3, 2)
    out = attend(theta, phi, g, 1.0).permute(0, 2, 1).contiguous().view(x.shape[0], -1, *x.shape[2:])
    return m.norm(m.proj(out))


def area(m: nn.Module, x: Tensor) -> Tensor:
    B, C, H, W = x.shape
    N = H * W
    tokens = m.qkv(x).flatten(2).transpose(1, 2).reshape(B * m.area, N // m.area, 3 * C)
    q, k, v = tokens.view(B * m.area, N // m.area, m.heads, -1).permute(0, 2, 3, 1).chunk(3, 2)  # (B a, h, d, N / a)
    out = v @ (q.transpose(-2, -1) @ k * q.shape[2] ** -0.5).softmax(-1).transpose(-2, -1)

    def to_map(t: Tensor) -> Tensor:
        return t.permute(0, 3, 1, 2).reshape(B, N, C).reshape(B, H, W, C).permute(0, 3, 1, 2).contiguous()

    return m.proj(to_map(out) + m.position(to_map(v)))


def psa(m: nn.Module, x: Tensor) -> Tensor:
    B, C, H, W = x.shape
    q, k, v = m.qkv(x).view(B, m.heads, -1, H * W).split([m.key_dim, m.key_dim, m.value_dim], 2)
    weights = (q.transpose(-2, -1) @ k * m.key_dim**-0.5).softmax(-1)
    return m.proj((v @ weights.transpose(-2, -1)).view(B, C, H, W) + m.position(v.reshape(B, C, H, W)))


def aifi(m: nn.Module, x: Tensor) -> Tensor:
    tokens = x.flatten(2).permute(0, 2, 1)
    query_key = m.query_key(tokens + m._positions(x))
    q, k, v = (heads(t, m.heads) for t in (*query_key.chunk(2, 2), m.value(tokens)))
    tokens = m.norm1(tokens + m.proj(attend(q, k, v, q.shape[-1] ** -0.5).transpose(1, 2).flatten(2)))
    return m.norm2(tokens + m.mlp(tokens)).permute(0, 2, 1).reshape(x.shape)


def irmb(m: nn.Module, x: Tensor) -> Tensor:
    B, C, H, W = x.shape
    M = m.window
    normed = m.norm(x)
    down, right = (-H) % M, (-W) % M
    ny, nx = (H + down) // M, (W + right) // M

    def grids(t: Tensor) -> Tensor:  # (B n, C, M, M)
        t = F.pad(t, (0, right, 0, down))
        return t.view(B, -1, M, ny, M, nx).permute(0, 3, 5, 1, 2, 4).reshape(B * ny * nx, -1, M, M)

    weight = m.qkv.weight[:, :, None, None]
    q, k = (heads(t.flatten(2).transpose(1, 2), m.heads) for t in F.conv2d(grids(normed), weight[: 2 * C]).chunk(2, 1))
    v = heads(F.relu(F.conv2d(grids(normed), weight[2 * C :])).flatten(2).transpose(1, 2), m.heads)
    mixed = attend(q, k, v, q.shape[-1] ** -0.5).permute(0, 1, 3, 2).reshape(B, ny, nx, -1, M, M)
    mixed = mixed.permute(0, 3, 4, 1, 5, 2).reshape(B, -1, H + down, W + right)[:, :, :H, :W]
    mixed = mixed + F.silu(m.local_norm(m.local(mixed)))
    return x + m.proj(mixed)


def window_bias(table: Tensor, M: int, K: int) -> Tensor:
    """Look every pair's bias up, ``(h, M * M, K * K)``."""
    key, query = (torch.stack(torch.meshgrid(*[torch.arange(n)] * 2, indexing="ij")).flatten(1) for n in (K, M))
    offset = key[:, None] - query[:, :, None] + M - 1  # (2, M * M, K * K)
    index = (offset[0] * (M + K - 1) + offset[1]).flatten()
    return table.flatten(1).t()[index].view(M * M, K * K, -1).permute(2, 0, 1).contiguous()


def windows(t: Tensor, M: int) -> Tensor:
    B, H, W, C = t.shape
    return t.view(B, H // M, M, W // M, M, C).permute(0, 1, 3, 2, 4, 5).contiguous().view(-1, M * M, C)


def unwindow(t: Tensor, M: int, shape: torch.Size) -> Tensor:
    B, C, H, W = shape
    return t.view(B, H // M, W // M, M, M, C).permute(0, 1, 3, 2, 4, 5).contiguous().view(B, H, W, C)


def hab(m: nn.Module, x: Tensor) -> Tensor:
    C, M = x.shape[1], m.window
    tokens = x.permute(0, 2, 3, 1).contiguous()
    normed = m.norm1(tokens)
    local = m.cab(normed.permute(0, 3, 1, 2)).permute(0, 2, 3, 1).contiguous()
    qkv = m.attn.qkv(windows(normed, M)).reshape(-1, M * M, 3, m.heads, C // m.heads).permute(2, 0, 3, 1, 4)
    weights = qkv[0] * (C // m.heads) ** -0.5 @ qkv[1].transpose(-2, -1) + window_bias(m.attn.table, M, M)
    mixed = m.attn.proj((weights.softmax(-1) @ qkv[2]).transpose(1, 2).reshape(-1, M * M, C))
    tokens = tokens + unwindow(mixed, M, x.shape) + local * m.conv_scale
    return (tokens + m.mlp(m.norm2(tokens))).permute(0, 3, 1, 2)


def ocab(m: nn.Module, x: Tensor) -> Tensor:
    B, C = x.shape[:2]
    M, K = m.window, m.key_window
    tokens = x.permute(0, 2, 3, 1).contiguous()
    q, k, v = m.qkv(m.norm1(tokens)).chunk(3, 3)
    keys = F.unfold(torch.cat([k, v], 3).permute(0, 3, 1, 2), K, stride=M, padding=(K - M) // 2)
    k, v = (heads(t.reshape(-1, K * K, C), m.heads) for t in
            keys.view(B, 2, C, K * K, -1).permute(1, 0, 4, 3, 2).contiguous())  # fmt: skip
    weights = heads(windows(q, M), m.heads) * (C // m.heads) ** -0.5 @ k.transpose(-2, -1)
    mixed = (weights + window_bias(m.table, M, K)).softmax(-1) @ v
    mixed = unwindow(mixed.transpose(1, 2).reshape(-1, M * M, C), M, x.shape)
    tokens = m.proj(mixed) + tokens
    return (tokens + m.mlp(m.norm2(tokens))).permute(0, 3, 1, 2)


def sk(m: nn.Module, x: Tensor) -> Tensor:
    views = torch.stack([conv(x) for conv in m.convs], 0)  # (branches, B, C, H, W)
    hidden = F.relu(m.squeeze(sum(views).mean(-1).mean(-1)))
    logits = [F.linear(hidden, weight)[:, :, None, None] for weight in m.select.weight.chunk(m.branches)]
    return (torch.stack(logits, 0).softmax(0) * views).sum(0)


def bam(m: nn.Module, x: Tensor) -> Tensor:
    pooled = F.adaptive_avg_pool2d(x, 1).flatten(1)
    by_channel = m.excite(F.relu(m.squeeze(pooled)))[:, :, None, None].expand_as(x)
    cells = F.relu(m.reduce(x))
    for conv in m.surroundings:
        cells = F.relu(conv(cells))
    return (1 + torch.sigmoid(m.plane(cells).expand_as(x) + by_channel)) * x


def criss_cross(m: nn.Module, x: Tensor) -> Tensor:
    B, C, H, W = x.shape
    parts = m.qkv(x).split([m.hidden, m.hidden, C], 1)
    q_column, k_column, v_column = (t.permute(0, 3, 1, 2).contiguous().view(B * W, -1, H) for t in parts)
    q_row, k_row, v_row = (t.permute(0, 2, 1, 3).contiguous().view(B * H, -1, W) for t in parts)
    itself = -torch.diag(torch.tensor(float("inf")).repeat(H)).unsqueeze(0).repeat(B * W, 1, 1)
    to_column = (torch.bmm(q_column.permute(0, 2, 1), k_column) + itself).view(B, W, H, H).permute(0, 2, 1, 3)
    to_row = torch.bmm(q_row.permute(0, 2, 1), k_row).view(B, H, W, W)
    weights = torch.cat([to_column, to_row], 3).softmax(3)
    of_column = weights[..., :H].permute(0, 2, 1, 3).contiguous().view(B * W, H, H)
    of_row = weights[..., H:].contiguous().view(B * H, W, W)
    column = torch.bmm(v_column, of_column.permute(0, 2, 1)).view(B, W, -1, H).permute(0, 2, 3, 1)
    row = torch.bmm(v_row, of_row.permute(0, 2, 1)).view(B, H, -1, W).permute(0, 2, 1, 3)
    return column + row


def halo(m: nn.Module, x: Tensor) -> Tensor:
    B, C = x.shape[:2]
    M, K = m.window, m.key_window
    q, k, v = m.qkv(x.permute(0, 2, 3, 1)).chunk(3, 3)
    q = heads(windows(q, M), m.heads) * (C // m.heads) ** -0.5  # (n, h, M * M, d)
    keys = F.unfold(torch.cat([k, v], 3).permute(0, 3, 1, 2), K, stride=M, padding=m.halo)
    k, v = (heads(t.reshape(-1, K * K, C), m.heads) for t in keys.view(B, 2, C, K * K, -1).permute(1, 0, 4, 3, 2))
    offsets = torch.arange(K) - torch.arange(M)[:, None] + M - 1  # (M, K)
    placed = q.view(*q.shape[:2], M, M, -1)
    to_row = torch.einsum("nhyxd,ykd->nhyxk", placed, m.height_table[offsets])
    to_column = torch.einsum("nhyxd,xkd->nhyxk", placed, m.width_table[offsets])
    logits = q @ k.transpose(-2, -1) + (to_row.unsqueeze(-1) + to_column.unsqueeze(-2)).reshape(*q.shape[:3], K * K)
    mixed = (logits.softmax(-1) @ v).transpose(1, 2).reshape(-1, M * M, C)
    return unwindow(mixed, M, x.shape).permute(0, 3, 1, 2)
