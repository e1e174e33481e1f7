"""Rank and number of processes, with and without a process group."""

from __future__ import annotations

from pathlib import Path

import torch.distributed as dist

from synthaug.generators.nn.parallel import rank_and_world


def test_without_a_group_there_is_one_process_and_with_one_its_numbers(tmp_path: Path) -> None:
    assert rank_and_world() == (0, 1)
    rendezvous = f"file://{tmp_path}/rendezvous"
    dist.init_process_group("gloo", init_method=rendezvous, rank=0, world_size=1)
    try:
        assert rank_and_world() == (0, 1)
    finally:
        dist.destroy_process_group()
    assert rank_and_world() == (0, 1)
