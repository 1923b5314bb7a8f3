"""The benchmark of the three nets, and of engines of your own beside them."""
