"""The floating-point format of a training's `precision` on a device."""

from __future__ import annotations

import torch

PRECISIONS = ("auto", "float32", "bfloat16")


def resolve_precision(precision: str, device: torch.device | str) -> str:
    """Return float32 or bfloat16; auto means bfloat16 where hardware has it."""
    if precision != "auto":
        return precision
    if has_bfloat16(torch.device(device)):
        return "bfloat16"
    return "float32"


def has_bfloat16(device: torch.device) -> bool:
    """Return whether the hardware has bfloat16; emulated, it is slower."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    # torch has no public probe for CPUs
    probe = vars(torch.cpu).get("_is_avx512_bf16_supported")
    return probe is not None and bool(probe())
