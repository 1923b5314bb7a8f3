"""What recordings of live runs are on a disk: for those who write them and those who read them."""
