"""What the user of a live display chose, and what the display itself has to say."""

from __future__ import annotations

from dataclasses import dataclass

from streamseg.core.errors import UsageError


@dataclass(frozen=True, slots=True)
class LiveStyle:
    """How a view is drawn."""

    overlay: bool = True
    """Draw the outline. Where it is switched off the picture says so."""
    opacity: float = 0.25
    """Of the tint inside the outline, 0..1."""
    full_frame: bool = False
    """Show the whole frame, with what the machine writes around the image, which may be a patient's name."""
    keys: str = ""
    """One small line at the bottom: what the keys do."""
    notice: str = ""
    """One line in its place for a moment: what a key has done, or why it could not."""
    held_s: int | None = None
    """Whole seconds for which the user has been freezing the display; None: it is live."""
    live_now: str = ""
    """While the display is frozen: the state of the run behind it."""

    def __post_init__(self) -> None:
        if not 0 <= self.opacity <= 1:
            raise UsageError(f"opacity {self.opacity} is not between 0 and 1; give for instance 0.25")
