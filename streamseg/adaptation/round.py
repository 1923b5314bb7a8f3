"""One round of adaptation: fine-tunes a net on labelled frames within a time, and judges the outcome.

Read :func:`adapt` top to bottom. Every step leaves files from which the next call goes on: after Ctrl-C or a
kill the same request loses at most the step that was running.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from streamseg.adaptation.comparison import Comparison, Outlines, compare, false_alarms, outlines
from streamseg.adaptation.history import (
    REPORT,
    RUN,
    WEIGHTS,
    History,
    Plan,
    Round,
    start_afresh,
)
from streamseg.adaptation.report import write_report
from streamseg.backends import load_backend
from streamseg.backends.loading import DEFAULT, DEFAULT_NET, weights_file
from streamseg.backends.loading import WEIGHTS as SHIPPED
from streamseg.core.errors import DataError, EngineError, UsageError
from streamseg.core.types import Backend, OutputCalibration, Say
from streamseg.datasets import (
    Dataset,
    Fold,
    RunSplit,
    Sample,
    hold_back,
    hold_back_again,
    open_dataset,
    read_licence,
)
from streamseg.datasets.phantoms import phantom_samples
from streamseg.engines.checkpoint import Checkpoint, write_checkpoint
from streamseg.engines.manifest import read_manifest
from streamseg.engines.store import EngineStore
from streamseg.export.build import export
from streamseg.export.contract import ExportRequest, ExportResult, Reporter
from streamseg.export.recipe import HELD_BACK, make_recipe
from streamseg.export.source import resolve
from streamseg.phantom import seeds
from streamseg.reporting.formatting import counted
from streamseg.training.cache import Cache, cache_samples, prepare_dataset
from streamseg.training.config import TrainConfig, recipe
from streamseg.training.data import TrainingData
from streamseg.training.devices import make_fabric
from streamseg.training.initial_weights import trainable
from streamseg.training.output_calibration import fit_output_calibration
from streamseg.training.run_folder import TrainingCallbacks, trained_on_restyled
from streamseg.training.trainer import fit

BATCH, PHANTOM_BATCH = 8, 2
RATE, STRENGTH = 5e-4, 1.0
"""Of the prototype in issue 17: one cycle, AdamW."""
MAX_EPOCHS = 40
"""More teach nothing that would be worth the time."""
MIN_TRAINING_IMAGES = 8
"""As many as the detector of unlike images needs."""
TIMED_STEPS = 3
MARGIN = 0.85
"""Share of the time for training that is planned: a run that is cut off has not ended its cycle of rates."""
PRECISION = "int8"
SHIPPED_LICENCE = "default weights: usgra-seg by T. M. K. (tmkand), CC BY 4.0"


@dataclass(frozen=True, slots=True)
class AdaptRequest:
    """The user's request."""

    data: Path
    """Labelled frames of the scanner."""
    name: str
    """Of the adaptation: a folder in ``out``."""
    base: str = "default"
    """The weights to start from: ``default``, or a checkpoint or run folder."""
    minutes: float = 30.0
    """About as long as the round may take."""
    out: Path = Path("adapted")
    device: str = "auto"
    seed: int = 0

    @property
    def folder(self) -> Path:
        """Of all rounds."""
        return self.out / self.name

    @property
    def source(self) -> str:
        """What :func:`streamseg.export.source.resolve` finds the base's weights by."""
        return read_manifest(SHIPPED / DEFAULT)[0].net if self.base == "default" else self.base

    @property
    def effort(self) -> int:
        """A measure of how much work beside the training fits into the time: 1 to 30."""
        return max(1, min(30, round(self.minutes)))


@dataclass(frozen=True)
class Tools:
    """What a round works with."""

    store: EngineStore
    report: Reporter
    should_stop: Callable[[], bool] = lambda: False
    """Asked between and within steps; the round then ends, and the same request resumes it."""
    on_start: Callable[[int, int], None] = lambda done, steps: None
    on_step: Callable[[int, str], None] = lambda done, note: None

    @property
    def say(self) -> Say:
        return self.report.say


@dataclass(frozen=True)
class _Work:
    """A round that was begun."""

    request: AdaptRequest
    history: History
    number: int
    plan: Plan
    base: Checkpoint
    data: Dataset
    training: TrainingData
    began: float = field(default_factory=time.monotonic)

    @property
    def folder(self) -> Path:
        return self.history.round_folder(self.number)

    @property
    def config(self) -> TrainConfig:
        return TrainConfig(**self.plan.config)

    @property
    def held_back(self) -> Dataset:
        return self.data.part(self.training.fold.validation)

    @property
    def trained(self) -> Dataset:
        return self.data.part(self.training.fold.train)

    def spent(self) -> float:
        """Seconds, in this call and earlier ones."""
        return self.plan.seconds + time.monotonic() - self.began


def adapt(request: AdaptRequest, tools: Tools) -> Round | None:
    """Do a round, or go on with the one that was stopped; None if it was stopped again.

    The outcome is in the history; if it was accepted, its engine is in the store. If the last round was of
    the same data and request, it is the outcome, and in use again if it was undone. Raises UsageError,
    DataError for data that cannot be split or hold too few frames, EngineError and GateError if no engine can
    be built from it, SinkError.
    """
    work = _begin(request, tools)
    if isinstance(work, Round):
        return work
    if tools.should_stop() or not _train(work, tools):
        _pause(work)
        return None
    weights = _weights(work, tools)
    if tools.should_stop():
        _pause(work)
        return None
    built = _export(work, weights, tools)
    if tools.should_stop():
        _pause(work)
        return None
    comparison, pictures = _compare(work, built, tools)
    reasons = comparison.objections()
    if reasons and built.fresh:
        tools.store.remove(built.folder)
    done = Round(
        number=work.number,
        date=work.plan.began,
        base=request.base,
        images=len(work.data),
        trained=len(work.training.fold.train),
        subjects=_subjects(work.data),
        minutes=round(work.spent() / 60, 1),
        engine=built.manifest.name,
        figures=comparison.to_json(),
        accepted=not reasons,
        reasons=tuple(reasons),
        licence=built.manifest.licence,
    )
    history = work.history.with_round(done)
    write_report(work.folder / REPORT, history, comparison, work.held_back, pictures)
    history.write()
    return done


def _begin(request: AdaptRequest, tools: Tools) -> _Work | Round:
    """Read the data, split it, and plan the round, or take the plan of one that was stopped, or finished."""
    history = History.read(request.folder)
    base = resolve(request.source)
    if request.base != "default" and trained_on_restyled(_folder(request.base)):
        base = replace(base, restyled=True)  # weights of earlier versions do not say so, their run does
    config = training_config(base, seed=request.seed)
    data = open_dataset(request.data)
    cache, near_duplicates = prepare_dataset(data, config.spec)
    fold = _split(request, history, data, cache, near_duplicates.groups)
    _check(data, fold)
    held_back = data.part(fold.validation)
    subjects = _subjects(held_back)
    of = "" if subjects is None else f" of {counted(subjects, 'subject')}"
    tools.say(f"{len(data)} frames: {len(fold.train)} to train on, {len(held_back)}{of} held back")
    drawn = min(200, 8 * request.effort + 32)
    seed = seeds.training(request.seed).take(drawn)
    training = TrainingData(cache, fold, cache_samples(phantom_samples(drawn, seed=seed), config.spec))
    number = history.next_number
    folder = history.round_folder(number)
    plan = Plan(request.base, base.sha256, training.fingerprint, request.minutes, asdict(config), _now())
    if history.rounds and (finished := _finished(history, plan)):
        tools.say(
            f"round {finished.number} of {request.name} did this already; label more frames for another"
        )
        return finished
    stored = Plan.read(folder)
    if stored is not None and stored.same_request(plan):
        tools.say(f"going on with round {number} of {request.name}")
        return _Work(request, history, number, stored, base, data, training)
    start_afresh(folder)
    work = _Work(request, history, number, plan, base, data, training)
    config = replace(config, epochs=_epochs(work, config, tools))
    plan = replace(plan, config=asdict(config))
    plan.write(folder)
    return replace(work, plan=plan)


def _finished(history: History, plan: Plan) -> Round | None:
    """The last round if it was of the same data and request, and its engine is in use again if accepted."""
    last = history.rounds[-1]
    stored = Plan.read(history.round_folder(last.number))
    if stored is None or not stored.same_request(plan):
        return None
    if last.accepted:
        replace(history, in_use=last.number).write()
    return last


def training_config(base: Checkpoint, *, seed: int = 0) -> TrainConfig:
    """The configuration of fine-tuning from a base, but for the epochs.

    Raises EngineError for a base whose input is scaled otherwise than in training.
    """
    config = recipe(
        "best",
        net=base.net,
        height=base.spec.height,
        width=base.spec.width,
        batch=BATCH,
        phantom_batch=PHANTOM_BATCH,
        learning_rate=RATE,
        schedule="one-cycle",
        weight_decay=1e-4,
        strength=STRENGTH,
        restyle=0.0,  # the frames are of the scanner that the net is going to see
        average=0.0,  # the one cycle ends with small steps, and an average would keep the base's weights
        seed=seed,
    )
    if (config.spec.mean, config.spec.std) != (base.spec.mean, base.spec.std):
        raise EngineError(
            "the weights to start from expect grey levels in units that training does not use; give weights "
            "that 'streamseg train' wrote"
        )
    return config


def _split(
    request: AdaptRequest,
    history: History,
    data: Dataset,
    cache: Cache,
    near_duplicates: Sequence[Sequence[int]],
) -> Fold:
    """Hold back whole subjects, the same as in the round before; never what the base was trained on."""
    before = history.rounds[-1:]
    earlier = RunSplit.read(history.round_folder(before[0].number)) if before else None
    fold = hold_back_again(data, HELD_BACK, earlier, cache.frames, near_duplicates=near_duplicates)
    own = RunSplit.read(weights_file(DEFAULT_NET) if request.base == "default" else Path(request.base))
    if own is not None and any(cache.frames[row] in own.train for row in fold.validation):
        return hold_back(data, HELD_BACK, runs=[own])
    return fold


def _check(data: Dataset, fold: Fold) -> None:
    if len(fold.train) < MIN_TRAINING_IMAGES:
        raise DataError(
            f"{len(data)} labelled frames are too few: {len(fold.train)} are left to train on, it takes "
            f"{MIN_TRAINING_IMAGES}; select and label more"
        )
    if not any(sample.nerve.any() for sample in data.part(fold.train)):
        raise DataError("none of the frames to train on shows a nerve; label frames that do")


def _subjects(data: Dataset) -> int | None:
    names = {entry.subject for entry in data.entries}
    return None if None in names else len(names)


def _now() -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())


def _finishing_seconds(request: AdaptRequest) -> float:
    """Kept of the time for calibration, engine and comparison."""
    return min(300.0, 0.35 * 60 * request.minutes)


def _epochs(work: _Work, config: TrainConfig, tools: Tools) -> int:
    """As many epochs as fit into the time, measured by some steps; at least 1."""
    data = work.training
    fold = Fold(data.fold.train[: TIMED_STEPS * config.batch], data.fold.validation[:1])
    with tempfile.TemporaryDirectory() as scratch:
        trial = replace(config, epochs=1)
        timed = fit(trial, replace(data, fold=fold), Path(scratch), fabric=make_fabric(work.request.device))
        step = timed.history.epochs[0]["seconds"] / max(1, len(fold.train) // config.batch)
    steps = max(1, len(data.fold.train) // config.batch)
    # Without gradients an image takes a third of its time in training.
    epoch = step * (steps + len(data.fold.validation) / (3 * config.batch))
    left = 60 * work.request.minutes - _finishing_seconds(work.request) - work.spent()
    epochs = max(1, min(MAX_EPOCHS, int(MARGIN * left / epoch)))
    tools.say(
        f"a step takes about {step:.2f} s: {epochs} epochs of {steps} steps, {epochs * epoch / 60:.1f} min"
    )
    return epochs


def _train(work: _Work, tools: Tools) -> bool:
    """Train, or go on; False if the user stopped it.

    What does not fit into the time is left out, but for the first epoch: without it nothing would be learned.
    """
    config = work.config
    left = 60 * work.request.minutes - _finishing_seconds(work.request)
    epochs = 0

    def begin(done: int, steps: int) -> None:
        nonlocal epochs
        epochs = done * config.epochs // steps
        tools.on_start(done, steps)

    def close_epoch(line: Mapping[str, Any]) -> None:
        nonlocal epochs
        epochs = line["epoch"]
        tools.say(f"epoch {epochs}/{config.epochs}  loss {line['loss']:.4f}  Dice {line['dice']:.4f}")

    callbacks = TrainingCallbacks(
        on_start=begin,
        on_step=lambda done, _, loss: tools.on_step(done, f"loss {loss:.4f}"),
        on_epoch=close_epoch,
        say=tools.say,
        should_stop=lambda: tools.should_stop() or (epochs > 0 and work.spent() > left),
    )
    fabric = make_fabric(work.request.device, config.precision)
    start = trainable(work.base, config, work.training)
    outcome = fit(config, work.training, work.folder / RUN, start=start, fabric=fabric, callbacks=callbacks)
    if tools.should_stop() and not outcome.finished:
        return False
    if not outcome.finished:
        tools.say(
            f"the time is over after {outcome.history.epoch} of {config.epochs} epochs; --minutes gives more"
        )
    return True


def _pause(work: _Work) -> None:
    """Keep the time that was spent."""
    replace(work.plan, seconds=work.spent()).write(work.folder)


def _weights(work: _Work, tools: Tools) -> Path:
    """The trained weights, folded, and calibrated on the scanner's frames; written beside their split."""
    path = work.folder / WEIGHTS
    if path.exists():
        return path
    trained = resolve(str(work.folder / RUN))
    base = work.base.spec
    others = {name: base.structure(name) for name in trained.spec.structures[1:] if name in base.structures}
    spec = replace(
        trained.spec,
        threshold=base.threshold,
        min_area=base.min_area,
        others=others,
        mirrored=base.mirrored,
    )
    licence = _licence(work.request, work.base)

    def write(to: Path, judgements: Mapping[str, OutputCalibration]) -> None:
        write_checkpoint(
            to,
            trained.weights,
            net=trained.net,
            folded=True,
            trained=True,
            spec=spec.calibrated(judgements),
            licence=licence,
            restyled=work.base.restyled,
        )

    with tempfile.TemporaryDirectory() as scratch:
        plain = Path(scratch) / WEIGHTS
        write(plain, {})
        backend = load_backend(plain)
        try:
            judgements, _ = fit_output_calibration(
                [(backend, work.held_back)],
                (sample.image for sample in work.trained),
                phantoms=10 * work.request.effort + 20,
                videos=max(3, work.request.effort * 2 // 3),
                restyled=work.base.restyled,
                say=tools.say,
            )
        finally:
            backend.close()
    RunSplit.of(work.training.cache.frames, work.training.fold).write(work.folder)
    write(path, judgements)
    return path


def _licence(request: AdaptRequest, base: Checkpoint) -> str:
    """The licence note of the data and of what the base was trained on, one line."""
    own = read_licence(request.data)
    of_base = base.licence or (SHIPPED_LICENCE if request.base == "default" else "")
    return "; ".join(note for note in (own and f"{request.name}: {own}", of_base) if note)


def _export(work: _Work, weights: Path, tools: Tools) -> ExportResult:
    """The engine, judged by the accuracy gate; in FP32 if INT8 loses too much."""
    split = RunSplit.of(work.training.cache.frames, work.training.fold)
    recipe_file = work.folder / "recipe.json"
    made = make_recipe(
        work.request.name,
        work.data,
        data_name=work.request.data.resolve().name,
        runs=[split],
        phantoms=2 * work.request.effort + 10,
    )
    made.write(recipe_file)
    request = ExportRequest(
        str(weights), "openvino", PRECISION, data=work.request.data, recipe=recipe_file, better=True
    )
    return export(request, tools.store, tools.report)


def _compare(
    work: _Work, built: ExportResult, tools: Tools
) -> tuple[Comparison, tuple[list[Outlines], list[Outlines]]]:
    """Before and after on the held-back frames, and the round in use if it is another engine."""
    samples = list(work.held_back)
    phantoms = 4 * work.request.effort + 20
    tools.say(f"comparing before and after on {len(samples)} held-back frames and {phantoms} phantoms")
    found, alarms = [], []
    base = DEFAULT if work.request.base == "default" else str(_checkpoint_file(work.request.base))
    for engine in (base, built.folder):
        backend = load_backend(engine)
        try:
            found.append(outlines(backend, samples))
            alarms.append(false_alarms(backend, phantoms))
        finally:
            backend.close()
    rival = _rival(work, samples, tools)
    return compare(samples, found[0], found[1], (alarms[0], alarms[1]), rival=rival), (found[0], found[1])


def _folder(base: str) -> Path:
    path = Path(base)
    return path if path.is_dir() else path.parent


def _checkpoint_file(base: str) -> Path:
    path = Path(base)
    return path / WEIGHTS if path.is_dir() else path


def _rival(work: _Work, samples: list[Sample], tools: Tools) -> list[Outlines] | None:
    """What the round in use finds; None without one, or if it was trained on these frames."""
    current = work.history.current
    if current is None:
        return None
    split = RunSplit.read(work.history.round_folder(current.number))
    frames = work.training.cache.frames
    if split is None or any(frames[row] in split.train for row in work.training.fold.validation):
        tools.say(
            f"round {current.number} was trained on frames that are held back now; not compared with it"
        )
        return None
    backend: Backend | None = None
    try:
        backend = load_backend(work.history.round_folder(current.number) / WEIGHTS)
        return outlines(backend, samples)
    except (EngineError, UsageError) as error:
        tools.say(f"the engine of round {current.number} cannot be compared with: {error}")
        return None
    finally:
        if backend is not None:
            backend.close()
