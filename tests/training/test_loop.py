"""A tiny run learns, resumes bit for bit, and stops on a loss that is no number."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from streamseg.checkpoint import read_checkpoint
from streamseg.datasets.reader import Sample
from streamseg.errors import StreamsegError, UsageError
from streamseg.nets import build_net
from streamseg.training.data import cache_samples, phantom_samples
from streamseg.training.loop import TrainConfig, Trainer, one_cycle

CONFIG = TrainConfig(height=32, width=48, epochs=2, batch=2, phantom_batch=1, learning_rate=1e-3, seed=3)


@pytest.fixture(scope="module")
def data():
    generator = np.random.default_rng(0)
    samples = []
    for number in range(4):
        image = generator.integers(0, 60, (64, 96), dtype=np.uint8)
        nerve = np.zeros((64, 96), bool)
        nerve[20:40, 10 * number : 10 * number + 30] = True
        image[nerve] += 150
        samples.append(Sample(str(number), image, nerve, np.zeros_like(nerve) if number % 2 else None))
    return cache_samples(samples, CONFIG.spec)


@pytest.fixture(scope="module")
def phantom():
    return cache_samples(phantom_samples(2, seed=5), CONFIG.spec)


def weights_after(trainer):
    trainer.run(lambda line: None)
    return {k: v.clone() for k, v in trainer.average.module.state_dict().items()}


def test_a_broken_run_resumes_to_the_same_weights(tmp_path, data, phantom):
    whole = weights_after(Trainer(CONFIG, data, data, phantom, tmp_path))
    (tmp_path / "broken").mkdir()
    broken = Trainer(CONFIG, data, data, phantom, tmp_path / "broken")
    broken.train_epoch()
    broken.epoch = 1
    broken.save()
    torch.manual_seed(999)
    resumed = Trainer(CONFIG, data, data, phantom, tmp_path / "broken")
    resumed.load()
    again = weights_after(resumed)
    assert all(torch.equal(whole[k], again[k]) for k in whole)


def test_a_run_leaves_a_log_and_weights_that_load(tmp_path, data, phantom):
    trainer = Trainer(replace(CONFIG, epochs=1), data, data, phantom, tmp_path)
    trainer.run(lambda line: None)
    (line,) = [json.loads(text) for text in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert line["epoch"] == 1
    assert line["loss"] > 0
    assert 0 <= line["dice"] <= 1
    checkpoint = read_checkpoint(tmp_path / "weights.safetensors")
    assert (checkpoint.net, checkpoint.folded, checkpoint.spec) == ("improved_unet", False, CONFIG.spec)
    net = build_net("improved_unet")
    net.load_state_dict({k: torch.from_numpy(v) for k, v in checkpoint.weights.items()}, strict=False)
    averaged = trainer.average.module.state_dict()
    assert torch.equal(net.state_dict()["head.weight"], averaged["head.weight"][:1])
    fresh = Trainer(CONFIG, data, data, None, tmp_path)
    fresh.start_from({k: torch.from_numpy(v) for k, v in checkpoint.weights.items()})
    started = fresh.net.state_dict()
    assert all(torch.equal(started[k][: len(v)], torch.from_numpy(v)) for k, v in checkpoint.weights.items())


def test_it_learns(tmp_path, data):
    config = replace(CONFIG, epochs=12, strength=0.0, phantom_batch=0, average=0.5, learning_rate=3e-3)
    lines = []
    Trainer(config, data, data, None, tmp_path).run(lines.append)
    assert lines[-1]["loss"] < 0.6 * lines[0]["loss"]
    assert lines[-1]["dice"] > 0.6


def test_another_config_is_refused_on_resume(tmp_path, data):
    Trainer(CONFIG, data, data, None, tmp_path).save()
    with pytest.raises(UsageError, match="another learning_rate"):
        Trainer(replace(CONFIG, learning_rate=0.5), data, data, None, tmp_path).load()


def test_a_loss_that_is_no_number_stops_the_run(tmp_path, data):
    trainer = Trainer(CONFIG, data, data, None, tmp_path)
    with torch.no_grad():
        next(trainer.net.parameters()).fill_(float("nan"))
    with pytest.raises(StreamsegError, match="the loss became nan in epoch 1"):
        trainer.run(lambda line: None)


def test_the_schedule_rises_and_falls():
    rates = [one_cycle(step, 100, 1.0) for step in range(100)]
    assert rates[0] == pytest.approx(1 / 25)
    assert max(rates) == rates[10] == 1
    assert rates[10:] == sorted(rates[10:], reverse=True)
    assert rates[-1] < 1e-3
