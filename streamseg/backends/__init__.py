"""Back ends run compiled nets; all implement one small protocol, :class:`streamseg.core.types.Backend`.

Importing this package loads neither OpenVINO nor torch; loading an engine does.
"""

from streamseg.backends.fake import FakeBackend
from streamseg.backends.loading import DEFAULT, engine_names, load_backend

__all__ = ["DEFAULT", "FakeBackend", "engine_names", "load_backend"]
