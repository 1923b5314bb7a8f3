"""A tiny run learns, resumes bit for bit after a kill, and is the same with several processes."""

import copy
import json
import signal
import time
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from streamseg.core.errors import DataError, EngineError, StreamsegError, UsageError
from streamseg.core.hardware import Machine
from streamseg.datasets.phantoms import draw_phantoms
from streamseg.engines.checkpoint import read_checkpoint
from streamseg.training import devices, trainer
from streamseg.training.config import recipe
from streamseg.training.data import take
from streamseg.training.devices import flushed_denormals, make_fabric
from streamseg.training.run_folder import TrainingCallbacks, stored_config, trained_on_restyled
from streamseg.training.teachers import Teachers
from streamseg.training.trainer import TrainingJob, fit, run, targets_of
from streamseg.training.validate import net_input
from streamseg.training.weights import recompute_statistics, running_average, take_weights, write_weights
from tests.nets.random_nets import random_checkpoint
from tests.training.forked import fork
from tests.training.runs import (
    CAREFUL,
    CONFIG,
    NARROW,
    narrow_nets,
    same,
    train_alone,
    train_together,
    training_data,
)


@pytest.fixture(scope="module", autouse=True)
def _narrow_nets():
    with narrow_nets():
        yield


@pytest.fixture(scope="module")
def mixed():
    return training_data()


@pytest.fixture(scope="module")
def data(mixed):
    """The same without phantoms and images without nerve."""
    return replace(mixed, phantom=None, absent=None)


def test_a_run_leaves_its_log_and_weights_that_load(tmp_path, mixed):
    lines, steps = [], []
    callbacks = TrainingCallbacks(on_step=lambda *now: steps.append(now), on_epoch=lines.append)
    done = fit(CONFIG, mixed, tmp_path, callbacks=callbacks)
    assert done.finished
    assert lines == [json.loads(text) for text in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert [line["epoch"] for line in lines] == [1, 2]
    assert lines[-1]["step"] == 4
    assert all(0 <= line["dice"] <= 1 and line["images_per_second"] > 0 for line in lines)
    losses = json.loads((tmp_path / "losses.json").read_text())
    assert len(losses) == 4
    assert lines[0]["loss"] == pytest.approx(sum(losses[:2]) / 2, abs=1e-5)
    assert steps[-1] == (4, 4, losses[-1])
    assert list((tmp_path / "tensorboard").iterdir())
    checkpoint = read_checkpoint(tmp_path / "weights.safetensors")
    assert (checkpoint.net, checkpoint.folded, checkpoint.spec) == ("improved_unet", False, CONFIG.spec)
    averaged = done.net.state_dict()
    assert torch.equal(torch.from_numpy(checkpoint.weights["head.weight"]), averaged["head.weight"])
    assert checkpoint.spec.structures == ("nerve", "vessel")
    assert checkpoint.restyled == trained_on_restyled(tmp_path) == (CONFIG.restyle > 0)


@pytest.mark.parametrize(
    "after", [pytest.param(1, marks=pytest.mark.slow), 2, pytest.param(3, marks=pytest.mark.slow)]
)
def test_a_run_that_was_stopped_goes_on_to_the_same_weights(tmp_path, mixed, after):
    whole = fit(CONFIG, mixed, tmp_path / "whole")
    asked = iter(range(100))
    callbacks = TrainingCallbacks(should_stop=lambda: next(asked) >= after)
    broken = fit(CONFIG, mixed, tmp_path / "broken", callbacks=callbacks)
    assert not broken.finished
    assert len(broken.history.losses) == after
    torch.manual_seed(999)
    begun = []
    callbacks = TrainingCallbacks(on_start=lambda *at: begun.append(at))
    resumed = fit(CONFIG, mixed, tmp_path / "broken", callbacks=callbacks)
    assert resumed.finished
    assert begun == [(after, 4)]
    assert same(whole.net.state_dict(), resumed.net.state_dict())
    assert whole.history.losses == resumed.history.losses


def test_saving_takes_a_small_share_of_the_time(tmp_path, data, monkeypatch):
    """A slow disk, or a busy machine: each save takes as long as an epoch."""
    now = [0.0]
    monkeypatch.setattr(trainer, "time", SimpleNamespace(monotonic=lambda: now[0]))
    written = []
    write = trainer.write_weights

    def slow(*parts):
        now[0] += 10
        written.append(now[0])
        write(*parts)

    monkeypatch.setattr(trainer, "write_weights", slow)
    monkeypatch.setattr(trainer, "SAVE_SECONDS", 1.0)

    def pass_time(*_):
        now[0] += 10

    config = replace(recipe("paper"), height=32, width=48, batch=2, epochs=30)
    fit(config, data, tmp_path / "run", callbacks=TrainingCallbacks(on_epoch=pass_time))
    assert len(written) == 3  # after the first epoch, 200 seconds later, and at the end


def test_a_run_ends_when_its_held_back_dice_is_flat(tmp_path, data):
    """So it does if it was stopped in between, and it is not taken up again."""
    config = replace(recipe("paper"), height=32, width=48, batch=2, epochs=9, patience=2, gain=1.0)
    whole = fit(config, data, tmp_path / "whole")
    assert whole.finished
    assert len(whole.history.epochs) == 3  # no Dice gains 1: two epochs after the first
    asked = iter(range(100))
    callbacks = TrainingCallbacks(should_stop=lambda: next(asked) >= 3)
    assert not fit(config, data, tmp_path / "broken", callbacks=callbacks).finished
    resumed = fit(config, data, tmp_path / "broken")
    assert resumed.finished
    assert same(whole.net.state_dict(), resumed.net.state_dict())
    stepped = []
    fit(config, data, tmp_path / "whole", callbacks=TrainingCallbacks(on_step=lambda *at: stepped.append(at)))
    assert stepped == []


@pytest.mark.slow  # three more processes; what is stopped and resumed in one is tested above
def test_a_run_killed_at_any_moment_goes_on_to_the_same_weights(tmp_path):
    """SIGKILL at arbitrary moments, so also while files are written, until the run gets through."""
    folder, held, said = tmp_path / "killed", tmp_path / "held", tmp_path / "said"
    whole = fork(train_alone, tmp_path / "whole", said=said)
    for delay in (0.0, 0.06):
        process = fork(train_alone, folder, held, said=said)
        before = newest(folder)
        while process.is_alive() and newest(folder) == before and not held.exists():
            time.sleep(0.005)
        time.sleep(delay)
        process.kill()
        process.join()
        assert process.exitcode == -signal.SIGKILL, said.read_text()
    last = fork(train_alone, folder, said=said)
    for process in (whole, last):
        process.join(timeout=120)
        assert process.exitcode == 0, said.read_text()
    killed, unbroken = (
        read_checkpoint(tmp_path / name / "weights.safetensors").weights for name in ("killed", "whole")
    )
    assert killed.keys() == unbroken.keys()
    assert all(np.array_equal(killed[name], unbroken[name]) for name in killed)
    assert losses(tmp_path / "killed") == losses(tmp_path / "whole")


def newest(folder):
    return max((p.stat().st_mtime_ns for p in folder.glob("*.json")), default=0) if folder.exists() else 0


def losses(folder):
    return json.loads((folder / "losses.json").read_text())


def test_a_finished_run_is_left_alone(tmp_path, data):
    first = fit(replace(CONFIG, epochs=1), data, tmp_path)
    before = {p: p.stat().st_mtime_ns for p in tmp_path.rglob("*")}
    called = []
    callbacks = TrainingCallbacks(on_step=lambda *_: called.append(1), on_epoch=called.append)
    again = fit(replace(CONFIG, epochs=1), data, tmp_path, callbacks=callbacks)
    assert again.finished
    assert not called
    assert {p: p.stat().st_mtime_ns for p in tmp_path.rglob("*")} == before
    assert same(first.net.state_dict(), again.net.state_dict())


@pytest.mark.slow  # two more processes
def test_two_processes_over_gloo_end_with_one_process_s_weights(tmp_path, mixed):
    """The same global batches and the same augmentation of each image; BatchNorm's statistics are frozen.

    Adam turns rounding in a gradient that nearly cancels into a good part of a step, so steps are small;
    other images, or otherwise augmented ones, would move nearly all weights by whole steps.
    """
    store = torch.distributed.TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    places = [torchrun_environment(rank, 2, store.port) for rank in range(2)]
    said = tmp_path / "said"
    processes = [fork(train_together, tmp_path / "2", said=said, environment=place) for place in places]
    config = replace(CONFIG, **CAREFUL)
    fit(config, mixed, tmp_path / "1")
    for process in processes:
        process.join(timeout=250)
    assert [process.exitcode for process in processes] == [0, 0], said.read_text()
    one, two = (read_checkpoint(tmp_path / n / "weights.safetensors").weights for n in "12")
    start = NARROW("improved_unet", outputs=2).state_dict()
    apart = {k: float(abs(one[k] - two[k]).max()) for k in one}
    assert max(apart.values()) < 1e-5, max(apart, key=apart.__getitem__)
    assert max(abs(one[k] - start[k].numpy()[: len(one[k])]).max() for k in one) > 5e-5


def torchrun_environment(rank: int, world: int, port: int) -> dict[str, str]:
    """What ``torchrun`` tells each of its processes; the store at ``port`` is held by who starts them."""
    return {
        **{"RANK": str(rank), "LOCAL_RANK": str(rank), "GROUP_RANK": "0", "LOCAL_WORLD_SIZE": str(world)},
        **{"WORLD_SIZE": str(world), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)},
        **{"TORCHELASTIC_RUN_ID": "test", "TORCHELASTIC_USE_AGENT_STORE": "True"},
    }


def test_processes_that_cannot_share_a_batch_are_refused(tmp_path, data):
    class Three:
        world_size = 3

    with pytest.raises(UsageError, match="3 processes cannot share batches of 2"):
        fit(CONFIG, data, tmp_path, fabric=Three())


def test_frozen_statistics_stay_as_they_are(tmp_path, data):
    done = fit(replace(CONFIG, frozen_statistics=True, average=0.0), data, tmp_path)
    state = done.net.state_dict()
    assert all((state[k] == 0).all() for k in state if k.endswith("running_mean"))


def test_images_are_changed_less_in_the_last_epochs(tmp_path, mixed, monkeypatch):
    strengths = []
    change = trainer.augment
    monkeypatch.setattr(
        trainer,
        "augment",
        lambda *parts, strength, soft: (
            strengths.append(strength) or change(*parts, strength=strength, soft=soft)
        ),
    )
    config = replace(CONFIG, average=0.0, settle=0.5, phantom_strength=0.5)
    settled = fit(config, mixed, tmp_path / "settled")
    first, last = strengths[:6], strengths[6:]  # two steps of labelled images, muscle and phantoms each
    assert sorted(set(first)) == [0.5, 1.0]
    assert sorted(set(last)) == [pytest.approx(0.2), pytest.approx(0.4)]
    plain = fit(replace(config, settle=0.0), mixed, tmp_path / "plain")
    same_losses = [a == b for a, b in zip(settled.history.losses, plain.history.losses, strict=True)]
    assert same_losses == [True, True, False, False]


def test_the_share_of_epochs_that_settle():
    config = replace(CONFIG, epochs=10, settle=0.25)
    assert [config.changes_at(epoch) < 1 for epoch in range(10)] == [False] * 8 + [True] * 2
    assert {replace(config, settle=0.0).changes_at(epoch) for epoch in range(10)} == {1.0}
    with pytest.raises(UsageError, match=r"settle 1\.5 is a share; give 0 to 1"):
        replace(config, settle=1.5)


def test_it_learns_by_the_paper_s_recipe(tmp_path, data):
    config = recipe("paper", height=32, width=48, batch=2, epochs=24, learning_rate=1e-2)
    lines = fit(config, data, tmp_path).history.epochs
    assert lines[-1]["loss"] < 0.6 * lines[0]["loss"]
    assert lines[-1]["dice"] > 0.6


def test_a_net_of_another_kind_trains_too(tmp_path, data):
    net = torch.nn.Conv2d(1, 2, 5, padding=2)
    done = fit(replace(CONFIG, epochs=1), data, tmp_path, net=net)
    assert done.finished
    assert not (tmp_path / "weights.safetensors").exists()
    assert done.net.weight.shape == (2, 1, 5, 5)


def test_a_run_starts_from_given_weights(tmp_path, data):
    fit(replace(CONFIG, epochs=1), data, tmp_path / "first")
    begin = read_checkpoint(tmp_path / "first/weights.safetensors").weights
    config = replace(CONFIG, epochs=1, learning_rate=1e-12, weight_decay=0.0, frozen_statistics=True)
    fit(config, data, tmp_path / "second", start=begin)
    after = read_checkpoint(tmp_path / "second/weights.safetensors").weights
    assert max(abs(after[k] - begin[k]).max() for k in begin) < 1e-6
    config = replace(CONFIG, epochs=1, learning_rate=1e-2, average=0.99)
    done = fit(config, data, tmp_path / "averaged", start=begin)
    state = torch.load(tmp_path / "averaged/last.pt", weights_only=True)["net"]["head.weight"]
    moved, kept = (w - torch.from_numpy(begin["head.weight"]) for w in (state, done.net.head.weight))
    assert 0 < kept.abs().max() < 0.05 * moved.abs().max()
    wrong = {**begin, "head.weight": begin["head.weight"][:, :3]}
    with pytest.raises(UsageError, match=r"do not fit the net: head\.weight"):
        fit(config, data, tmp_path / "third", start=wrong)


def test_a_loss_that_is_no_number_keeps_what_was_saved(tmp_path, data, monkeypatch):
    monkeypatch.setattr(trainer, "LOSS_STEPS", 1)
    monkeypatch.setattr(trainer, "SAVE_SECONDS", 0.0)
    monkeypatch.setattr(trainer, "SAVE_SHARE", 1e9)
    config = replace(CONFIG, epochs=3)

    def poison(step, *_):
        if step == 3:
            monkeypatch.setattr(
                trainer, "batch_loss", lambda *_, **__: torch.tensor(float("nan"), requires_grad=True)
            )

    with pytest.raises(
        StreamsegError, match=r"the loss became nan in step 4 \(epoch 2\).*lower learning rate"
    ):
        fit(config, data, tmp_path, callbacks=TrainingCallbacks(on_step=poison))
    assert all(
        (abs(w) < 1e6).all() for w in read_checkpoint(tmp_path / "weights.safetensors").weights.values()
    )
    monkeypatch.undo()
    assert fit(config, data, tmp_path).finished


def test_a_loss_that_is_huge_writes_no_weights(tmp_path, data):
    with pytest.raises(StreamsegError, match=r"lower learning rate|diverged"):
        fit(replace(CONFIG, epochs=4, learning_rate=1e30, schedule="constant"), data, tmp_path)
    assert not (tmp_path / "weights.safetensors").exists()


def test_a_job_runs_without_the_command_line(tmp_path):
    split = []
    job = TrainingJob(
        replace(CONFIG, epochs=1), "phantom:6", tmp_path, phantom=2, validation=0.34, device="cpu"
    )
    callbacks = TrainingCallbacks(on_data=split.append, should_stop=lambda: True)
    outcome = run(job, callbacks)
    assert not outcome.finished
    (data,) = split
    assert (len(data.fold.train), len(data.fold.validation), len(data.phantom)) == (4, 2, 2)
    assert data.cache.names[0] == "00000"


def test_images_without_nerve_that_have_nerve_are_refused(tmp_path):
    draw_phantoms(tmp_path / "phantoms", 6, print)
    job = TrainingJob(CONFIG, "phantom:6", tmp_path / "run", absent=(tmp_path / "phantoms",))
    with pytest.raises(DataError, match=r"0000\d.png labels nerve.*--absent takes images without nerve"):
        run(job)


def test_images_without_nerve_and_teachers_take_part(tmp_path, mixed):
    """Of the loss of every step, and of what a run may be resumed with."""
    teacher = random_checkpoint("unet")
    config = replace(CONFIG, epochs=1, teachers=teacher.sha256, soft=0.7)
    losses = []
    for absent, taught in ((None, None), (mixed.absent, None), (mixed.absent, Teachers([teacher], "cpu"))):
        folder = tmp_path / str(len(losses))
        done = fit(config, replace(mixed, absent=absent), folder, teachers=taught)
        losses.append(done.history.losses[0])
    assert len(set(losses)) == 3
    once = replace(config, taught_from="original")
    teachers = Teachers([teacher], "cpu")
    targets = targets_of(teachers, {"image": mixed.cache, "absent": mixed.absent}, once)
    done = fit(once, replace(mixed, targets=targets), tmp_path / "once", teachers=teachers)
    losses.append(done.history.losses[0])
    assert len(set(losses)) == 4
    assert losses[3] == pytest.approx(losses[2], rel=0.1)
    with pytest.raises(UsageError, match="another data"):
        fit(config, mixed, tmp_path / "0")
    with pytest.raises(UsageError, match="begun with other teachers"):
        run(TrainingJob(config, "phantom:6", tmp_path / "3"))


def test_a_setting_that_earlier_versions_lacked_has_its_default(tmp_path, data):
    config = recipe("paper", height=32, width=48, epochs=1, batch=2)
    fit(config, data, tmp_path)
    old = json.loads((tmp_path / "run.json").read_text())
    for name in ("restyle", "teachers", "absent_batch"):
        del old["config"][name]
    (tmp_path / "run.json").write_text(json.dumps(old))
    assert stored_config(tmp_path) == config
    assert fit(config, data, tmp_path).finished
    with pytest.raises(UsageError, match=r"another restyle 0\.0 \(now 0\.5\)"):
        fit(replace(config, restyle=0.5), data, tmp_path)
    (tmp_path / "run.json").write_text('{"config": {"height": "high"}}')
    with pytest.raises(DataError, match="is damaged"):
        stored_config(tmp_path)
    assert stored_config(tmp_path / "nowhere") is None


def test_bfloat16_is_chosen_where_the_device_has_it(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    for feature, precision in (("amx_bf16", "bf16-mixed"), ("avx2", "32-true")):
        monkeypatch.setattr(devices, "this_processor", lambda f=feature: Machine("any", (f,)))
        assert devices.fastest_precision() == precision
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    for has in (True, False):
        monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda has=has, **_: has)
        assert devices.fastest_precision("gpu") == ("bf16-mixed" if has else "32-true")
        assert devices.fastest_precision("cpu") == "32-true"  # the processor's, which is the last one above


def test_a_job_for_an_unknown_net_is_refused(tmp_path):
    with pytest.raises(UsageError, match="no net is called 'resnet'"):
        TrainingJob(replace(CONFIG, net="resnet"), "phantom:6", tmp_path)


def test_both_planes_are_kept_and_either_kind_of_net_takes_them_up_again(tmp_path):
    net = NARROW("improved_unet", outputs=2)
    write_weights(tmp_path / "w.safetensors", net, CONFIG)
    checkpoint = read_checkpoint(tmp_path / "w.safetensors")
    assert checkpoint.weights["head.weight"].shape == (2, 4, 1, 1)
    assert checkpoint.spec.structures == ("nerve", "vessel")
    nerve_only = NARROW("improved_unet")
    take_weights(nerve_only, checkpoint.weights)
    assert np.array_equal(nerve_only.head.weight.detach(), checkpoint.weights["head.weight"][:1])
    other = NARROW("improved_unet", outputs=2)
    vessel = other.state_dict()["head.weight"][1].clone()
    write_weights(tmp_path / "n.safetensors", nerve_only, replace(CONFIG, vessel_weight=0.0))
    take_weights(other, read_checkpoint(tmp_path / "n.safetensors").weights)
    assert torch.equal(other.head.weight[0], net.head.weight[0])
    assert torch.equal(other.head.weight[1], vessel)


def test_weights_of_another_net_are_refused():
    net = NARROW("improved_unet")
    with pytest.raises(UsageError, match="do not fit the net: nothing"):
        take_weights(net, {"nothing": np.zeros(3)})


def test_weights_that_are_not_finite_leave_the_file_as_it_was(tmp_path):
    net = NARROW("improved_unet", outputs=2)
    write_weights(tmp_path / "w.safetensors", net, CONFIG)
    before = (tmp_path / "w.safetensors").read_bytes()
    with torch.no_grad():
        net.head.bias.fill_(float("inf"))
    with pytest.raises(EngineError, match="not finite"):
        write_weights(tmp_path / "w.safetensors", net, CONFIG)
    assert (tmp_path / "w.safetensors").read_bytes() == before


def test_the_running_average_forgets_the_start_and_then_keeps_its_decay():
    old, new, number = [torch.zeros(3), torch.tensor(0)], [torch.ones(3), torch.tensor(7)], 0
    running_average(0.99)(old, new, number)
    assert old[0][0].item() == pytest.approx(0.9)
    assert old[1].item() == 7
    old[0].zero_()
    running_average(0.99)(old, new, 10_000)
    assert old[0][0].item() == pytest.approx(0.01, abs=1e-6)


def test_one_process_on_the_processor():
    fabric = make_fabric("cpu")
    assert (fabric.device.type, fabric.world_size, fabric.global_rank) == ("cpu", 1, 0)


def test_bf16_is_used_where_asked_for():
    fabric = make_fabric("cpu", "bf16-mixed")
    with fabric.autocast():
        assert torch.nn.Linear(2, 2)(torch.ones(1, 2)).dtype == torch.bfloat16


def test_deterministic_algorithms_are_asked_for():
    before = torch.are_deterministic_algorithms_enabled()
    try:
        make_fabric("cpu", deterministic=True)
        assert torch.are_deterministic_algorithms_enabled()
    finally:
        torch.use_deterministic_algorithms(before)


def test_a_device_that_is_not_there_is_named(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(UsageError, match="no GPU that torch can use"):
        make_fabric("gpu")
    with pytest.raises(UsageError, match="no device is called 'tpu'"):
        make_fabric("tpu")


def test_denormal_numbers_are_flushed_within_the_block_only():
    tiny = torch.full((4,), 1e-30) * torch.tensor(1e-10)
    assert (tiny != 0).all()
    with flushed_denormals():
        make_fabric("cpu")
        assert (torch.full((4,), 1e-30) * torch.tensor(1e-10) == 0).all()
    assert (torch.full((4,), 1e-30) * torch.tensor(1e-10) != 0).all()


def test_denormal_numbers_are_flushed_in_all_threads_of_torch():
    """Three quarters of a large tensor were not: only the thread that asks for it was set."""
    threads = torch.get_num_threads()
    torch.set_num_threads(4)
    try:
        tiny = torch.full((4_000_000,), 1e-39)
        half = torch.tensor(0.5)
        assert (tiny * half).all()  # and all threads run
        with flushed_denormals():
            assert not (tiny * half).any()
        assert (tiny * half).all()
    finally:
        torch.set_num_threads(threads)


def test_statistics_of_averaged_weights_are_those_of_what_they_compute(tmp_path, data):
    """The averages of the single weights' variances were up to several times too large."""
    config = replace(CONFIG, phantom_batch=0, epochs=6, learning_rate=0.02, average=0.97, strength=0.0)
    done = fit(config, data, tmp_path)
    net = copy.deepcopy(done.net)
    stored = {name: buffer.clone() for name, buffer in net.named_buffers()}
    rows = torch.tensor(data.fold.train)
    recompute_statistics(net, [net_input(take(data.cache, rows).images, config.spec)])
    names = [name for name in stored if name.endswith("running_var")]
    ratios = torch.cat([stored[name] / dict(net.named_buffers())[name] for name in names])
    assert 0.5 < ratios.median() < 1.5
    saved = read_checkpoint(tmp_path / "weights.safetensors").weights
    assert all(np.array_equal(saved[name], stored[name].numpy()) for name in names)
    assert not net.training


def test_frozen_statistics_of_averaged_weights_stay(tmp_path, data):
    start = NARROW("improved_unet", outputs=2)
    weights = {name: tensor.numpy() for name, tensor in start.state_dict().items() if "tracked" not in name}
    config = replace(CONFIG, phantom_batch=0, frozen_statistics=True)
    done = fit(config, data, tmp_path, start=weights)
    for name, buffer in done.net.named_buffers():
        if name.endswith("running_var"):
            assert torch.equal(buffer, torch.ones_like(buffer))
