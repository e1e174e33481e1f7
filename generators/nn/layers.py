"""Layers of several systems: spectral norm, batch norm, boxes and masks.

Legend: B images, O object slots, C channels, H W pixels, S side of a square map, N side of a
lattice, m side of a mask.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.ops import roi_align

from synthaug.generators.nn.parallel import rank_and_world


class SpectralNormed(nn.Module):
    """Base of layers whose weight is divided by its largest singular value.

    Miyato et al., 2018. One power iteration per training-mode forward; gradients flow through sigma
    into the weight, not into u and v. State keys (`weight_orig`, `weight_u`, `weight_v`) are those
    of official checkpoints.
    """

    weight_u: Tensor
    weight_v: Tensor

    def __init__(
        self,
        shape: tuple[int, ...],
        eps: float,
        init: Callable[[Tensor], object] = nn.init.orthogonal_,
    ) -> None:
        super().__init__()
        self.eps = eps
        self.weight_orig = nn.Parameter(torch.empty(shape))
        init(self.weight_orig)
        rows = shape[0]
        columns = self.weight_orig[0].numel()
        weight_u = F.normalize(torch.randn(rows), dim=0)
        weight_v = F.normalize(torch.randn(columns), dim=0)
        self.register_buffer("weight_u", weight_u)
        self.register_buffer("weight_v", weight_v)

    def weight(self) -> Tensor:
        """Return the normalized weight, shape of `weight_orig`."""
        matrix = self.weight_orig.flatten(1)  # [rows, columns]
        if self.training:
            with torch.no_grad():
                back = matrix.t() @ self.weight_u
                v = F.normalize(back, dim=0, eps=self.eps)
                forth = matrix @ v
                u = F.normalize(forth, dim=0, eps=self.eps)
                self.weight_v.copy_(v)
                self.weight_u.copy_(u)
        # Cloned, because the next training forward overwrites the buffers before this graph's
        # backward has read them.
        u = self.weight_u.clone()
        v = self.weight_v.clone()
        sigma = u @ (matrix @ v)
        return self.weight_orig / sigma


class SNConv2d(SpectralNormed):
    """Convolution, stride 1, same padding, spectrally normalized."""

    def __init__(self, in_channels: int, out_channels: int, kernel: int, eps: float = 1e-4) -> None:
        super().__init__((out_channels, in_channels, kernel, kernel), eps)
        self.bias = nn.Parameter(torch.zeros(out_channels))
        self.padding = kernel // 2

    def forward(self, x: Tensor) -> Tensor:
        """Map [B, in, H, W] to [B, out, H, W]."""
        return F.conv2d(x, self.weight(), self.bias, padding=self.padding)

    def pooled(self, x: Tensor) -> Tensor:
        """Average the output of a 3 x 3 kernel over 2 x 2 pixels, H and W even.

        Maps [B, in, H, W] to [B, out, H/2, W/2] by one 4 x 4 convolution of stride 2, whose kernel
        is the mean of the four shifts by a pixel: 16 products instead of 36.
        """
        kernel = F.avg_pool2d(self.weight(), 2, stride=1, padding=1)
        return F.conv2d(x, kernel, self.bias, stride=2, padding=1)


class SNLinear(SpectralNormed):
    """Linear layer, spectrally normalized."""

    def __init__(
        self, in_features: int, out_features: int, eps: float = 1e-12, bias: bool = True
    ) -> None:
        super().__init__((out_features, in_features), eps)
        self.bias: nn.Parameter | None = None
        if bias:
            self.bias = nn.Parameter(torch.zeros(out_features))

    def forward(self, x: Tensor) -> Tensor:
        """Map [..., in] to [..., out]."""
        return F.linear(x, self.weight(), self.bias)


class SNEmbedding(SpectralNormed):
    """Embedding table, spectrally normalized as one matrix."""

    def __init__(self, rows: int, width: int, eps: float = 1e-12) -> None:
        super().__init__((rows, width), eps)

    def forward(self, index: Tensor) -> Tensor:
        """Map indices [n] int64 to rows [n, width]."""
        return F.embedding(index, self.weight())


class _AllReduceSum(torch.autograd.Function):
    """Sum over all processes, differentiable: the gradient is summed too."""

    @staticmethod
    def forward(_ctx: Any, x: Tensor) -> Tensor:
        return _summed(x)

    @staticmethod
    def backward(_ctx: Any, *grads: Tensor) -> Tensor:
        return _summed(grads[0])


def _summed(x: Tensor) -> Tensor:
    """Return the sum of a tensor over all processes."""
    total = x.clone()
    dist.all_reduce(total)
    return total


class BatchNorm2d(nn.BatchNorm2d):
    """Batch norm over the batches of all processes, on CPU (gloo) as on GPU.

    torch's own SyncBatchNorm refuses CPU tensors. With one process this is exactly
    `nn.BatchNorm2d`.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Map [B, C, H, W] to the same."""
        _, world = rank_and_world()
        if not self.training or world == 1:
            return super().forward(x)
        assert self.running_mean is not None
        assert self.running_var is not None
        assert self.momentum is not None
        # statistics of bfloat16 activations are float32, as in torch's own batch norm
        values = x.float()
        channels = x.shape[1]
        sums = values.sum((0, 2, 3))
        squares = (values * values).sum((0, 2, 3))
        count = values.new_tensor([x.numel() / channels])
        own = torch.cat([sums, squares, count])
        totals: Tensor = _AllReduceSum.apply(own)
        sums, squares, count = torch.split(totals, [channels, channels, 1])
        mean = sums / count
        var = squares / count - mean * mean
        var = var.clamp_min(0)
        with torch.no_grad():
            unbiased = var * count / (count - 1)
            self.running_mean.lerp_(mean, self.momentum)
            self.running_var.lerp_(unbiased, self.momentum)
        scale = torch.rsqrt(var + self.eps)
        shift = -mean * scale
        if self.affine:
            shift = shift * self.weight + self.bias
            scale = scale * self.weight
        per_channel = scale[:, None, None]
        out = torch.addcmul(shift[:, None, None], values, per_channel)
        return out.to(x.dtype)


def box_lattice(boxes: Tensor, side: int) -> tuple[Tensor, Tensor]:
    """Return the coordinates of an N x N lattice inside each box: X, Y [B, O, N].

    They are 0 at the left or top edge of a box [B, O, 4] xyxy and 1 at its right or bottom edge.
    The first and last lattice points sit on the image border (i / (N - 1)).
    """
    points = torch.linspace(0, 1, side, dtype=boxes.dtype, device=boxes.device)
    left, top, right, bottom = boxes[..., None].unbind(-2)  # [B, O, 1] each
    width = (right - left).clamp_min(1e-6)
    height = (bottom - top).clamp_min(1e-6)
    x = (points - left) / width
    y = (points - top) / height
    return x, y


def place_masks(masks: Tensor, boxes: Tensor, side: int, align_corners: bool) -> Tensor:
    """Paste each mask [B, O, m, m] into its box on a canvas, zero outside.

    Equal to bilinear grid sampling with zero padding, written as two small matrix products because
    the sampling grid is separable. Not clipped: like the original, a mask leaks up to one of its
    own pixels over the box's edge.
    """
    x, y = box_lattice(boxes, side)  # [B, O, N]
    cells = masks.shape[-1]
    row_weights = _bilinear_weights(y, cells, align_corners)
    column_weights = _bilinear_weights(x, cells, align_corners)
    rows = row_weights @ masks  # [B, O, N, m]
    return rows @ column_weights.transpose(-1, -2)


def _bilinear_weights(position: Tensor, cells: int, align_corners: bool) -> Tensor:
    """Return the weight [B, O, N, cells] of each cell at positions [B, O, N] in 0..1."""
    source = position * cells - 0.5
    if align_corners:
        source = position * (cells - 1)
    numbers = torch.arange(cells, dtype=position.dtype, device=position.device)
    distance = (source[..., None] - numbers).abs()
    return (1 - distance).clamp_min(0)


def inside_boxes(boxes: Tensor, side: int) -> Tensor:
    """Return 1 inside each box [B, O, 4] on the lattice, 0 outside: [B, O, N, N].

    Both edges are inside.
    """
    x, y = box_lattice(boxes, side)
    in_x = (x >= 0) & (x <= 1)
    in_y = (y >= 0) & (y <= 1)
    columns = in_x.to(boxes.dtype)
    rows = in_y.to(boxes.dtype)
    return rows[..., :, None] * columns[..., None, :]


def roi_features(features: Tensor, rois: Tensor, cells: int, scale: float) -> Tensor:
    """Return RoIAlign in its published form [n, C, cells, cells], always float32.

    That is adaptive sampling without a half-pixel shift. features [B, C, S, S]; rois [n, 5] (image
    index, xyxy in pixels; sorted by image), times `scale` in cells of the map. On a CPU it is two
    small matrix products, because the sampling is separable; forward and backward together are
    several times faster.
    """
    features = features.float()
    rois = rois.float()
    if features.is_cuda:
        out: Tensor = roi_align(features, rois, cells, scale, sampling_ratio=0, aligned=False)
        return out
    side = features.shape[-1]
    channels = features.shape[1]
    edges = rois[:, 1:] * scale
    left, top, right, bottom = edges.unbind(1)  # [n] each
    x_weights = _axis_weights(left, right, cells, side)
    y_weights = _axis_weights(top, bottom, cells, side)
    image_of = rois[:, 0].long()
    counts = torch.bincount(image_of, minlength=len(features)).tolist()
    images = features.permute(0, 2, 3, 1)  # [B, S, S, C]
    x_parts = torch.split(x_weights, counts)
    y_parts = torch.split(y_weights, counts)
    pooled = []
    for image, x_part, y_part in zip(images, x_parts, y_parts, strict=True):
        rows = y_part.flatten(0, 1) @ image.flatten(1)
        rows = rows.view(len(y_part), cells, side, channels)
        pooled.append(x_part[:, None] @ rows)  # [n, cells, cells, C]
    return torch.cat(pooled).permute(0, 3, 1, 2)


def _axis_weights(low: Tensor, high: Tensor, cells: int, side: int) -> Tensor:
    """Return the weight [n, cells, side] of map cells in RoI cells along one axis.

    RoIs reach from low [n] to high [n]. A RoI cell is the mean of ceil(its size) bilinear samples;
    samples beyond the map by more than one cell count as zero.
    """
    device = low.device
    cell = (high - low).clamp_min(1.0) / cells  # [n]
    samples = cell.ceil()  # [n]
    max_samples = 1
    if len(samples):
        max_samples = int(samples.max())
    steps = torch.arange(max_samples, device=device)
    numbers = torch.arange(cells, device=device)
    first = low[:, None] + numbers * cell[:, None]  # [n, cells]
    step = cell / samples
    offset = (steps + 0.5) * step[:, None]  # [n, max_samples]
    position = first[:, :, None] + offset[:, None]  # [n, cells, max_samples]
    on_map = (position >= -1) & (position <= side)
    sampled = steps < samples[:, None]
    counts = sampled[:, None] & on_map
    nearest = position.clamp(0, side - 1)[..., None]
    pixels = torch.arange(side, device=device)
    distance = (nearest - pixels).abs()
    weights = (1 - distance).clamp_min(0)  # [n, cells, max_samples, side]
    counted = weights * counts[..., None]
    total = counted.sum(2)
    return total / samples[:, None, None]


def resize(x: Tensor, side: int) -> Tensor:
    """Resize [B, C, S, S] bilinearly with half-pixel centres and no antialiasing."""
    if x.shape[-1] == side:
        return x
    size = (side, side)
    return F.interpolate(x, size=size, mode="bilinear", align_corners=False)


def upsample2(x: Tensor) -> Tensor:
    """Repeat each pixel 2 x 2."""
    return F.interpolate(x, scale_factor=2, mode="nearest")


def orthogonal_init(module: nn.Module) -> None:
    """Set orthogonal weights and zero biases (LostGAN-V2 section 2.2.7)."""
    for name, parameter in module.named_parameters():
        if name.endswith("bias"):
            nn.init.zeros_(parameter)
        elif parameter.ndim > 1:
            nn.init.orthogonal_(parameter)


def default_init(module: nn.Module) -> None:
    """Initialise as the published code's framework does.

    Uniform in 1 / sqrt(fan-in), normal for embeddings.
    """
    for layer in module.modules():
        if isinstance(layer, (SNConv2d, SNLinear)):
            inputs = layer.weight_orig[0].numel()
            bound = 1 / math.sqrt(inputs)
            nn.init.uniform_(layer.weight_orig, -bound, bound)
            if layer.bias is not None:
                nn.init.uniform_(layer.bias, -bound, bound)
        elif isinstance(layer, SNEmbedding):
            nn.init.normal_(layer.weight_orig)
