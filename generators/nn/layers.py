"""Layers that more than one paper system uses: spectral norm, synchronised batch norm, box and mask placement.

Legend: B images, O object slots, C channels, H W pixels, S side of a square map, N side of a lattice, m side of a mask.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.ops import roi_align


class SpectralNormed(nn.Module):
    """Base of layers whose weight is divided by its largest singular value (Miyato et al., 2018).

    One power iteration per training-mode forward; gradients flow through sigma into the weight, not into u and v.
    State keys (`weight_orig`, `weight_u`, `weight_v`) are those of official checkpoints.
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
        columns = self.weight_orig[0].numel()
        self.register_buffer("weight_u", F.normalize(torch.randn(shape[0]), dim=0))
        self.register_buffer("weight_v", F.normalize(torch.randn(columns), dim=0))

    def weight(self) -> Tensor:
        """Return the normalised weight, shape of `weight_orig`."""
        flat = self.weight_orig.flatten(1)  # [dim0, rest]
        if self.training:
            with torch.no_grad():
                v = F.normalize(flat.t() @ self.weight_u, dim=0, eps=self.eps)
                self.weight_v.copy_(v)
                self.weight_u.copy_(F.normalize(flat @ v, dim=0, eps=self.eps))
        # cloned, because the next training forward overwrites the buffers before this graph's backward has read them
        sigma = self.weight_u.clone() @ (flat @ self.weight_v.clone())
        return self.weight_orig / sigma


class SNConv2d(SpectralNormed):
    """Convolution, stride 1, same padding, spectrally normalised."""

    def __init__(self, in_channels: int, out_channels: int, kernel: int, eps: float = 1e-4) -> None:
        super().__init__((out_channels, in_channels, kernel, kernel), eps)
        self.bias = nn.Parameter(torch.zeros(out_channels))
        self.padding = kernel // 2

    def forward(self, x: Tensor) -> Tensor:
        """[B, in, H, W] -> [B, out, H, W]."""
        return F.conv2d(x, self.weight(), self.bias, padding=self.padding)

    def pooled(self, x: Tensor) -> Tensor:
        """Average the output of a 3 x 3 kernel over 2 x 2 pixels: [B, in, H, W] -> [B, out, H/2, W/2], H and W even.

        One 4 x 4 convolution of stride 2, whose kernel is the mean of the four shifts by a pixel: 16 products instead of 36.
        """
        return F.conv2d(
            x, F.avg_pool2d(self.weight(), 2, stride=1, padding=1), self.bias, stride=2, padding=1
        )


class SNLinear(SpectralNormed):
    """Linear layer, spectrally normalised."""

    def __init__(self, in_features: int, out_features: int, eps: float = 1e-12) -> None:
        super().__init__((out_features, in_features), eps)
        self.bias = nn.Parameter(torch.zeros(out_features))

    def forward(self, x: Tensor) -> Tensor:
        """[..., in] -> [..., out]."""
        return F.linear(x, self.weight(), self.bias)


class SNEmbedding(SpectralNormed):
    """Embedding table, spectrally normalised as one matrix."""

    def __init__(self, rows: int, width: int, eps: float = 1e-12) -> None:
        super().__init__((rows, width), eps)

    def forward(self, index: Tensor) -> Tensor:
        """[n] int64 -> [n, width]."""
        return F.embedding(index, self.weight())


class _AllReduceSum(torch.autograd.Function):
    """Sum over all training workers, differentiable: the gradient of a sum is the sum of the gradients."""

    @staticmethod
    def forward(_ctx: Any, x: Tensor) -> Tensor:
        out = x.clone()
        dist.all_reduce(out)
        return out

    @staticmethod
    def backward(_ctx: Any, *grads: Tensor) -> Tensor:
        out = grads[0].clone()
        dist.all_reduce(out)
        return out


class BatchNorm2d(nn.BatchNorm2d):
    """Batch norm whose batch statistics run over all training workers, on CPU (gloo) as on GPU.

    torch's own SyncBatchNorm refuses CPU tensors. With one worker this is exactly `nn.BatchNorm2d`.
    """

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, H, W] -> same."""
        if not (
            self.training
            and dist.is_available()
            and dist.is_initialized()
            and dist.get_world_size() > 1
        ):
            return super().forward(x)
        assert (
            self.running_mean is not None
            and self.running_var is not None
            and self.momentum is not None
        )
        wide = (
            x.float()
        )  # statistics of bfloat16 activations are float32, as in torch's own batch norm
        count = wide.new_tensor([x.numel() / x.shape[1]])
        sums = torch.cat([wide.sum((0, 2, 3)), (wide * wide).sum((0, 2, 3)), count])  # [2 C + 1]
        joined: Tensor = _AllReduceSum.apply(sums)
        total, square, n = torch.split(joined, [x.shape[1], x.shape[1], 1])
        mean = total / n
        var = (square / n - mean * mean).clamp_min(0)
        with torch.no_grad():
            self.running_mean.lerp_(mean, self.momentum)
            self.running_var.lerp_(var * n / (n - 1), self.momentum)
        scale = torch.rsqrt(var + self.eps)
        shift = -mean * scale
        if self.affine:
            shift = shift * self.weight + self.bias
            scale = scale * self.weight
        out: Tensor = torch.addcmul(shift[None, :, None, None], wide, scale[None, :, None, None])
        return out.to(x.dtype)


def box_lattice(boxes: Tensor, side: int) -> tuple[Tensor, Tensor]:
    """Coordinates of an N x N lattice inside each box: 0 at its left/top edge, 1 at its right/bottom edge.

    The first and last lattice points sit on the image border (i / (N - 1)). boxes [B, O, 4] xyxy -> X, Y [B, O, N].
    """
    points = torch.linspace(0, 1, side, dtype=boxes.dtype, device=boxes.device)
    left, top, right, bottom = boxes.unbind(-1)
    width = (right - left).clamp_min(1e-6)
    height = (bottom - top).clamp_min(1e-6)
    return (points - left[..., None]) / width[..., None], (points - top[..., None]) / height[
        ..., None
    ]


def place_masks(masks: Tensor, boxes: Tensor, side: int, align_corners: bool) -> Tensor:
    """Paste each mask [B, O, m, m] into its box on a [side, side] canvas, bilinearly, zero outside.

    Equal to bilinear grid sampling with zero padding, written as two small matrix products because the sampling grid is
    separable. Not clipped: like the original, a mask leaks up to one of its own pixels over the box's edge.
    """
    m = masks.shape[-1]
    x, y = box_lattice(boxes, side)  # [B, O, N]
    cells = torch.arange(m, dtype=boxes.dtype, device=boxes.device)

    def weights(position: Tensor) -> Tensor:
        source = position * (m - 1) if align_corners else position * m - 0.5
        return (1 - (source[..., None] - cells).abs()).clamp_min(0)  # [B, O, N, m]

    return weights(y) @ masks @ weights(x).transpose(-1, -2)


def inside_boxes(boxes: Tensor, side: int) -> Tensor:
    """Hard indicator of each box on the lattice, both edges inclusive: [B, O, 4] -> [B, O, N, N] of 0 and 1."""
    x, y = box_lattice(boxes, side)
    in_x = ((x >= 0) & (x <= 1)).to(boxes.dtype)
    in_y = ((y >= 0) & (y <= 1)).to(boxes.dtype)
    return in_y[..., :, None] * in_x[..., None, :]


def roi_features(features: Tensor, rois: Tensor, cells: int, scale: float) -> Tensor:
    """RoIAlign in its published form: adaptive sampling, no half-pixel shift; always in float32.

    features [B, C, S, S]; rois [n, 5] (image index, xyxy in pixels; sorted by image), times `scale` in cells of the map
    -> [n, C, cells, cells]. On a CPU it is two small matrix products, because the sampling is separable; forward and
    backward together are several times faster.
    """
    features, rois = features.float(), rois.float()
    if features.is_cuda:
        out: Tensor = roi_align(features, rois, cells, scale, sampling_ratio=0, aligned=False)
        return out
    side = features.shape[-1]
    low, high = rois[:, 1:3] * scale, rois[:, 3:5] * scale  # [n, 2] x and y
    x = _axis_weights(low[:, 0], high[:, 0], cells, side)
    y = _axis_weights(low[:, 1], high[:, 1], cells, side)
    parts = []
    counts = torch.bincount(rois[:, 0].long(), minlength=len(features)).tolist()
    last = features.permute(0, 2, 3, 1)  # [B, S, S, C]
    for image, x_n, y_n in zip(last, torch.split(x, counts), torch.split(y, counts), strict=True):
        rows = (y_n.flatten(0, 1) @ image.flatten(1)).view(len(y_n), cells, side, image.shape[-1])
        parts.append(x_n[:, None] @ rows)  # [n, cells, cells, C]
    return torch.cat(parts).permute(0, 3, 1, 2)


def _axis_weights(low: Tensor, high: Tensor, cells: int, side: int) -> Tensor:
    """How much each of `side` map cells counts in each RoI cell along one axis: [n], [n] -> [n, cells, side].

    A RoI cell is the mean of ceil(its size) bilinear samples; samples beyond the map by more than one cell count as zero.
    """
    cell = (high - low).clamp_min(1.0) / cells  # [n]
    samples = cell.ceil()  # [n]
    steps = torch.arange(int(samples.max()) if len(samples) else 1, device=low.device)
    first = low[:, None] + torch.arange(cells, device=low.device) * cell[:, None]  # [n, cells]
    offset = (steps + 0.5) * (cell / samples)[:, None]  # [n, most samples]
    position = first[:, :, None] + offset[:, None]  # [n, cells, samples]
    counts = (steps < samples[:, None])[:, None] & (position >= -1) & (position <= side)
    nearest = position.clamp(0, side - 1)[..., None]
    hat = (1 - (nearest - torch.arange(side, device=low.device)).abs()).clamp_min(
        0
    )  # [n, cells, samples, side]
    return (hat * counts[..., None]).sum(2) / samples[:, None, None]


def resize(x: Tensor, side: int) -> Tensor:
    """Bilinear resize of [B, C, S, S] with half-pixel centres and no antialiasing; identity at the same size."""
    if x.shape[-1] == side:
        return x
    return F.interpolate(x, size=(side, side), mode="bilinear", align_corners=False)


def upsample2(x: Tensor) -> Tensor:
    """Repeat each pixel 2 x 2."""
    return F.interpolate(x, scale_factor=2, mode="nearest")


def orthogonal_init(module: nn.Module) -> None:
    """Orthogonal weights and zero biases, as the paper prescribes (LostGAN-V2 section 2.2.7)."""
    for name, parameter in module.named_parameters():
        if name.endswith("bias"):
            nn.init.zeros_(parameter)
        elif parameter.ndim > 1:
            nn.init.orthogonal_(parameter)
