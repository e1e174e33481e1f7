"""The floating-point format of a job's `precision` on a device."""

from __future__ import annotations

import torch

PRECISIONS = ("float32", "bfloat16", "auto")


def uses_bfloat16(precision: str, device: torch.device | str) -> bool:
    """Return whether `precision` means bfloat16; "auto" does where it is native."""
    if precision == "auto":
        return has_bfloat16(torch.device(device))
    return precision == "bfloat16"


def dtype_of(precision: str, device: torch.device | str) -> torch.dtype:
    """Return the format of numbers that `precision` means on a device."""
    if uses_bfloat16(precision, device):
        return torch.bfloat16
    return torch.float32


def has_bfloat16(device: torch.device) -> bool:
    """Return whether the hardware has bfloat16; emulated, it is slower."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    probe = getattr(
        torch.cpu, "_is_avx512_bf16_supported", None
    )  # torch has no public one for CPUs
    return bool(probe and probe())
