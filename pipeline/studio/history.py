"""What was done to a sketch, to be undone and done again."""

from __future__ import annotations

from dataclasses import dataclass

from synthaug.pipeline.studio.sketch import Sketch

MOST = 200  # edits that can be undone


@dataclass(frozen=True)
class History:
    """A sketch, those before it and those that were undone.

    Edits with one `gesture`, such as the moves of one drag, are undone together.
    """

    present: Sketch
    past: tuple[Sketch, ...] = ()
    future: tuple[Sketch, ...] = ()
    gesture: str = ""

    def push(self, sketch: Sketch, gesture: str = "") -> History:
        """Return the history after an edit; one that changes nothing leaves it as it is."""
        if sketch == self.present:
            return self
        past = self.past
        if not gesture or gesture != self.gesture:
            past = (*self.past, self.present)[-MOST:]
        return History(sketch, past, (), gesture)

    def undo(self) -> History:
        """Return the history before the last edit; as it is where there is none."""
        if not self.past:
            return self
        return History(self.past[-1], self.past[:-1], (self.present, *self.future))

    def redo(self) -> History:
        """Return the history after the edit that was undone last."""
        if not self.future:
            return self
        return History(self.future[0], (*self.past, self.present), self.future[1:])
