"""Training over several workers equals training on the joined batch."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from generators.layers import BatchNorm2d
from generators.train import Config

ROOT = Path(__file__).resolve().parents[2]
WORKER = """
import sys, torch, torch.distributed as dist
from generators.layers import BatchNorm2d
from generators.train import _average_gradients
torch.set_num_threads(1)
rank, folder = int(sys.argv[1]), sys.argv[2]
dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
data = torch.load(f"{folder}/data.pt", weights_only=True)
norm = BatchNorm2d(3)
x = data["x"][rank::2].clone().requires_grad_()
out = norm(x)
loss = (out * data["w"][rank::2]).mean()
loss.backward()
_average_gradients(norm)
found = {"out": out.detach(), "grad": x.grad / 2, "weight": norm.weight.grad, "var": norm.running_var}
torch.save(found, f"{folder}/{rank}.pt")
dist.destroy_process_group()
"""


def test_two_workers_normalise_over_the_joined_batch(tmp_path: Path) -> None:
    """Outputs, input gradients, averaged weight gradients and running variance, against torch's own batch norm."""
    torch.manual_seed(0)
    data = {"x": torch.randn(6, 3, 5, 5) * 3 + 2, "w": torch.randn(6, 3, 5, 5)}
    torch.save(data, tmp_path / "data.pt")
    workers = [
        subprocess.Popen([sys.executable, "-c", WORKER, str(rank), str(tmp_path)], cwd=ROOT) for rank in range(2)
    ]
    assert [worker.wait(timeout=100) for worker in workers] == [0, 0]
    norm = torch.nn.BatchNorm2d(3).double()
    x = data["x"].double().requires_grad_()
    out = norm(x)
    torch.autograd.backward((out * data["w"]).mean())
    for rank in range(2):
        found = torch.load(tmp_path / f"{rank}.pt", weights_only=True)
        assert x.grad is not None
        assert norm.weight.grad is not None
        assert norm.running_var is not None
        torch.testing.assert_close(found["out"].double(), out.detach()[rank::2], rtol=0, atol=1e-5)
        torch.testing.assert_close(found["grad"].double(), x.grad[rank::2], rtol=0, atol=1e-6)
        torch.testing.assert_close(found["weight"].double(), norm.weight.grad, rtol=0, atol=1e-5)
        torch.testing.assert_close(found["var"].double(), norm.running_var, rtol=1e-5, atol=0)


def test_alone_it_is_torchs_batch_norm() -> None:
    x = torch.randn(4, 3, 5, 5)
    assert torch.equal(BatchNorm2d(3)(x), torch.nn.BatchNorm2d(3)(x))


@pytest.mark.parametrize(("key", "value"), [("ema", 1.0), ("decay_from", 0.0), ("precision", "float16"), ("lr_g", 0.0)])
def test_impossible_settings_name_their_key(key: str, value: object) -> None:
    with pytest.raises(ValueError, match=key):
        Config(**{key: value})  # type: ignore[arg-type]
