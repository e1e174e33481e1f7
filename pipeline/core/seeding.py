"""Randomness by identity: a draw derives from its use, not order or worker."""

from __future__ import annotations

import hashlib
import math

import numpy as np


def seed_for(*identity: int | str) -> int:
    """Return a 63-bit seed for an identity: (job seed, "synthesize", image index)."""
    parts = [f"{type(part).__name__}:{part}" for part in identity]
    text = "\x1f".join(parts)
    digest = hashlib.blake2b(text.encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1


def rng_for(*identity: int | str) -> np.random.Generator:
    """Return a numpy generator for an identity."""
    return np.random.default_rng(seed_for(*identity))


def permuted(index: int, size: int, seed: int) -> int:
    """Map an index to its place in a fixed pseudo-random permutation.

    The permutation of 0..size-1 takes no memory. An affine map i -> (a i + b) mod size with gcd(a,
    size) = 1: over any `size` consecutive indices each value comes once.
    """
    assert size > 0
    rng = rng_for(seed, "permuted", size)
    start = int(rng.integers(size))
    stride = int(rng.integers(1, size + 1))
    while math.gcd(stride, size) != 1:
        stride = stride % size + 1
    return (stride * (index % size) + start) % size
