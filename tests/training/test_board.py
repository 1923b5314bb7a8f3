"""What is written can be read by TensorBoard's own reader, once each step, also after a broken run."""

from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from streamseg.training.run_folder import TensorBoardLog


def read(folder):
    events = EventAccumulator(str(folder / "tensorboard"))
    events.Reload()
    return events


def test_figures_arrive_and_a_broken_run_s_surplus_is_hidden(tmp_path):
    board = TensorBoardLog(tmp_path, 0)
    board.losses(3, [0.9, 0.8, 0.7], rate=0.1)
    board.epoch(3, loss=0.8, dice=0.25, images_per_second=4.0)
    board.close()
    board = TensorBoardLog(tmp_path, 2)  # the last save was after two steps
    board.losses(4, [0.71, 0.6], rate=0.1)
    board.close()
    events = read(tmp_path)
    losses = {event.step: round(event.value, 4) for event in events.Scalars("loss/step")}
    assert losses == {1: 0.9, 2: 0.8, 3: 0.71, 4: 0.6}
    assert round(events.Scalars("rate")[-1].value, 4) == 0.1
