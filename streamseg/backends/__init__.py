"""Back ends: a compiled net behind one small protocol, :class:`streamseg.types.Backend`.

Importing this package loads neither OpenVINO nor torch; loading an engine does.
"""

from streamseg.backends.catalog import DEFAULT, engine_names, load_backend
from streamseg.backends.fake import FakeBackend

__all__ = ["DEFAULT", "FakeBackend", "engine_names", "load_backend"]
