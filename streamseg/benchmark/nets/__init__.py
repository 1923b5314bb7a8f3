"""The benchmark of the nets, and of engines of your own beside them."""
