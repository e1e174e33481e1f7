"""Recognition of pix2pix generators whose channels are those of maps."""

from __future__ import annotations

from synthaug.generators.official import Found, State
from synthaug.generators.pix2pix.official import OUTERMOST, find_generator


def recognise(state: State, background: bool) -> Found | None:
    """Return the network of a state dict, or None when its keys are not a U-Net's.

    Raises ValueError naming a key that is wrong.
    """
    del background  # of other systems
    if OUTERMOST not in state:
        return None
    return find_generator(state, of_maps=True)
