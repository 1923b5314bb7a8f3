"""Other programs beside ours: runtimes, video pipelines, nets."""
