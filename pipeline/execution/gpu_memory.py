"""How many workers fit on a GPU, by the memory that one of them took."""

from __future__ import annotations

from dataclasses import dataclass

CONTEXT_BYTES = 600 * 2**20  # of CUDA itself and its libraries, in every process
USED_SHARE = 0.8  # of a GPU's memory: later items may need a little more than the first
MOST_WORKERS = 4  # on a GPU: more of them only wait for each other


@dataclass(frozen=True)
class Memory:
    """Bytes of a GPU, as one of its processes sees them."""

    peak: int  # that its tensors took at once; 0 = it used no GPU
    available: int  # to our processes, its own part included


def memory_of_this_process() -> Memory:
    """Return what this process has taken of its GPU since its last work began."""
    import torch

    if not torch.cuda.is_available():
        return Memory(0, 0)
    free, _ = torch.cuda.mem_get_info()
    reserved = torch.cuda.memory_reserved()
    return Memory(torch.cuda.max_memory_reserved(), free + reserved + CONTEXT_BYTES)


def workers_that_fit(memory: Memory, cores: int) -> int:
    """Return how many workers like that one may share its GPU, of as many cores."""
    if not memory.peak:
        return 1
    by_memory = int(USED_SHARE * memory.available / (memory.peak + CONTEXT_BYTES))
    return max(1, min(by_memory, cores, MOST_WORKERS))
