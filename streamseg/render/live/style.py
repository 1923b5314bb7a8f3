"""How a live display draws its views: the user's choices, and the display's own notices."""

from __future__ import annotations

from dataclasses import dataclass

from streamseg.core.errors import UsageError


@dataclass(frozen=True, slots=True)
class LiveStyle:
    """Options for drawing a view."""

    overlay: bool = True
    """Draw outlines. Without it the banner says that they are switched off."""
    vessels: bool = True
    """Draw vessels too. Without it their figures say that they are switched off."""
    opacity: float = 0.25
    """Opacity of the tint inside the nerve's outline, 0..1."""
    full_frame: bool = False
    """Show the whole frame, including what the machine writes around the image: possibly a patient's name."""
    keys: str = ""
    """Small line at the bottom that explains the keys."""
    notice: str = ""
    """Line that replaces it for a moment: the effect of a key, or why it had none."""
    held_s: int | None = None
    """Seconds since the user froze the display; None while it is live."""
    live_now: str = ""
    """State of the run while the display is frozen."""

    def __post_init__(self) -> None:
        if not 0 <= self.opacity <= 1:
            raise UsageError(f"opacity {self.opacity} is not between 0 and 1; give for instance 0.25")
