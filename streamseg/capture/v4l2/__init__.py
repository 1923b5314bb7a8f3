"""Frame grabbers on Linux, through Video4Linux2 (V4L2)."""
