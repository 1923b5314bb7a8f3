"""What the user of a live display chose, and what the display itself has to say."""

from __future__ import annotations

from dataclasses import dataclass, replace

from streamseg.core.errors import UsageError
from streamseg.core.types import State
from streamseg.core.view import View

_CLAIMS = (State.NERVE, State.NO_NERVE, State.LOW_CONFIDENCE, State.UNLIKE_TRAINING)
EXPIRED = "the last outline is older than the age budget"


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


def without_expired_outline(view: View, now_ns: int) -> View:
    """The view as it may be shown at ``now_ns``: without what was found in its frame once that has expired.

    A view that has not expired, or holds no segmentation, is returned as it is. What the segmentation
    claimed (nerve, no nerve, ...) becomes LAGGING; the other states stay.
    """
    if view.segmentation is None or view.expires_ns is None or now_ns < view.expires_ns:
        return view
    if view.state not in _CLAIMS:
        return replace(view, segmentation=None, expires_ns=None)
    return replace(view, segmentation=None, expires_ns=None, state=State.LAGGING, reason=EXPIRED)
