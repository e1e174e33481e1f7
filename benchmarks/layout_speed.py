"""How much faster are the production forms of the layout systems that the papers compare with than
their networks, evaluated directly?

    python -m benchmarks.layout_speed [SYSTEM ...] [rounds=N]

The baseline is the system's own network in evaluation: every convolution, norm and layout as the
equations have them. Published widths, COCO-Stuff's classes, random weights with norms at work,
layouts of 3 to 8 objects without masks, batch 4. One thread of one process alternates baseline and
ours, A B A B; what counts is the median over rounds of the ratio of their CPU seconds, which other
work on the machine hardly moves.
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable

import torch
from torch import Tensor, nn

from synthaug.generators.base import PAD_BOX, Layouts, SamplerOptions

LABELS = 184
BATCH = 4
SLOTS = 8
Call = Callable[[], Tensor]


def settle(network: nn.Module) -> None:
    """Statistics off their defaults, as in a trained network."""
    rng = torch.Generator().manual_seed(0)
    for key, value in network.state_dict().items():
        if key.endswith("running_var"):
            value.uniform_(0.5, 1.5, generator=rng)
        elif key.endswith("running_mean"):
            value.normal_(std=0.1, generator=rng)


def layouts_of(batch: int) -> Layouts:
    """Random layouts of 3, 4 ... 8 objects and again from 3."""
    rng = torch.Generator().manual_seed(1)
    size = 0.15 + 0.45 * torch.rand(batch, SLOTS, 2, generator=rng)
    corner = torch.rand(batch, SLOTS, 2, generator=rng) * (1 - size)
    boxes = torch.cat([corner, corner + size], -1)
    labels = torch.randint(1, LABELS, (batch, SLOTS), generator=rng)
    padding = torch.arange(SLOTS) >= 3 + torch.arange(batch)[:, None] % (SLOTS - 2)
    labels[padding] = 0
    boxes[padding] = torch.tensor(PAD_BOX)
    return Layouts(labels, boxes, torch.ones(labels.shape))


def sg2im_forms() -> tuple[Call, Call]:
    """The network and the production form of sg2im, with predicted masks."""
    from synthaug.generators.sg2im.config import Config
    from synthaug.generators.sg2im.network import Sg2ImGenerator
    from synthaug.generators.sg2im.sampler import Sg2ImSampler

    torch.manual_seed(0)
    network = Sg2ImGenerator(Config(), LABELS).eval()
    settle(network)
    sampler = Sg2ImSampler(network, SamplerOptions())
    graphs, noise = sampler.draw(layouts_of(BATCH), range(BATCH))
    return (
        lambda: network(graphs, noise, graphs.boxes).images,
        lambda: sampler.network(graphs, noise, graphs.boxes).images,
    )


def layout2im_forms() -> tuple[Call, Call]:
    """The network and the production form of Layout2Im."""
    from synthaug.generators.layout2im.config import Config
    from synthaug.generators.layout2im.network import Layout2ImGenerator
    from synthaug.generators.layout2im.rows import rows_of
    from synthaug.generators.layout2im.sampler import Layout2ImSampler

    torch.manual_seed(0)
    network = Layout2ImGenerator(Config(), LABELS).eval()
    settle(network)
    sampler = Layout2ImSampler(network, SamplerOptions())
    rows = rows_of(layouts_of(BATCH))
    z = sampler.draw(SLOTS, range(BATCH))[rows.is_row]
    return lambda: network(rows, z).images, lambda: sampler.network(rows, z).images


def grid2im_forms() -> tuple[Call, Call]:
    """The network and the production form of Grid2Im, with predicted masks."""
    from synthaug.generators.grid2im.config import Config
    from synthaug.generators.grid2im.network import Grid2ImGenerator, attributes_of
    from synthaug.generators.grid2im.sampler import Grid2ImSampler

    torch.manual_seed(0)
    network = Grid2ImGenerator(Config(), LABELS).eval()
    settle(network)
    sampler = Grid2ImSampler(network, SamplerOptions())
    graphs, noise = sampler.draw(layouts_of(BATCH), range(BATCH))
    attributes = attributes_of(graphs)

    def directly() -> Tensor:
        placed = network.place(graphs, attributes, noise)
        codes = network.invent_appearance(placed.vectors, noise)
        layout = network.layout(graphs, codes, graphs.boxes, placed.masks, in_front=True)
        images: Tensor = network.layout_to_image(layout)
        return images

    return directly, lambda: sampler.network(graphs, attributes, noise)[0]


SYSTEMS: dict[str, Callable[[], tuple[Call, Call]]] = {
    "grid2im": grid2im_forms,
    "sg2im": sg2im_forms,
    "layout2im": layout2im_forms,
}


def timed(call: Call) -> tuple[float, Tensor]:
    begin = time.process_time()
    with torch.inference_mode():
        out = call()
    return time.process_time() - begin, out


def compare(name: str, rounds: int) -> None:
    """Print a row of the table."""
    direct, fast = SYSTEMS[name]()
    seconds: list[tuple[float, float]] = []
    difference = 0.0
    for _ in range(rounds + 1):
        before, expected = timed(direct)
        after, made = timed(fast)
        seconds.append((before, after))
        scale = max(1.0, float(expected.abs().max()))
        difference = max(difference, float((made - expected).abs().max()) / scale)
    ratios = [a / b for a, b in seconds[1:]]  # the first round warms up
    rate = BATCH / statistics.median(after for _, after in seconds[1:])
    spread = f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"
    print(f"| {name} | {rate:.2f} | {spread} | {difference:.0e} |", flush=True)


def main(words: list[str]) -> None:
    torch.set_num_threads(1)
    rounds = 5
    names = []
    for word in words:
        if word.startswith("rounds="):
            rounds = int(word.removeprefix("rounds="))
        else:
            names.append(word)
    print("| system | images/s per core | ratio, median (min to max) | largest difference |")
    print("|---|---|---|---|")
    for name in names or SYSTEMS:
        compare(name, rounds)


if __name__ == "__main__":
    main(sys.argv[1:])
