"""The loop for recorded sources: every frame, in order."""
