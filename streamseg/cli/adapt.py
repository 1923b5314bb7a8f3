"""``streamseg adapt``: fine-tunes a net for a scanner, judges it, and puts it to use; or undoes that."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from streamseg.cli.console import Progress, Stop, print_json, put, say, stop_on_signals
from streamseg.cli.options import JsonOption
from streamseg.core.errors import StreamsegError, UsageError

if TYPE_CHECKING:
    from streamseg.adaptation.history import History, Round
    from streamseg.adaptation.round import AdaptRequest
    from streamseg.live.config import LiveConfig

T = TypeVar("T")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")


def adapt(
    data: Annotated[
        Path | None,
        typer.Argument(
            metavar="DATA", help="Labelled frames of the scanner, as streamseg import writes them."
        ),
    ] = None,
    name: Annotated[
        str,
        typer.Option(
            "--name", metavar="NAME", help="Name of the scanner: the folder of its rounds in --out."
        ),
    ] = "scanner",
    base: Annotated[
        str,
        typer.Option(
            "--from", metavar="default|FILE", help="Weights to start from: a checkpoint or a run folder."
        ),
    ] = "default",
    minutes: Annotated[
        float, typer.Option(min=0.1, max=10_000, metavar="N", help="About as long as it may take.")
    ] = 30.0,
    profile: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Live profile, new or existing, that uses the result from now on."),
    ] = None,
    undo: Annotated[
        bool, typer.Option("--undo", help="Go back to the round before, or to the weights it started from.")
    ] = False,
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="Folder of all adaptations.")] = Path(
        "adapted"
    ),
    device: Annotated[str, typer.Option(help="auto, cpu or gpu.")] = "auto",
    seed: Annotated[int, typer.Option(help="Random seed.")] = 0,
    as_json: JsonOption = False,
) -> None:
    """Fine-tune a net on labelled frames of a scanner, and use it if it is better.

    Whole subjects (or a contiguous block) are held back to measure before and after; phantoms are mixed in,
    so that frames without nerve are not forgotten. Confidence and likeness to the training data are fitted to
    the scanner, and the weights become an INT8 engine that must pass the accuracy gate. A net that does not
    beat what it started from, and the round in use, replaces nothing; the exit code is then 1. The report
    shows held-back frames side by side, and the learning curve of all rounds.

    After Ctrl-C or a kill the same command goes on.
    """
    from streamseg.adaptation.history import History
    from streamseg.adaptation.round import AdaptRequest
    from streamseg.live.config import profile_path

    if not _NAME.fullmatch(name):
        raise UsageError(f"invalid name {name!r}; use letters, digits, '-', '_' and '.'")
    if profile is not None:
        profile_path(profile)
    if undo:
        if data is not None:
            raise UsageError("--undo takes no data; leave it out")
        _undo(History.read(out / name), as_json)
        return
    if data is None:
        raise UsageError("no data; give the folder that 'streamseg import' wrote, or --undo")
    request = AdaptRequest(data, name, base, minutes, out, device, seed)
    with ExitStack() as opened:
        done = _run(request, opened)
    history = History.read(request.folder)
    if profile is not None and done.accepted:
        done = _use(history, done, profile)
    _report(request, History.read(request.folder), done, as_json)
    if not done.accepted:
        raise StreamsegError(f"round {done.number} replaces nothing: {'; '.join(done.reasons)}")


def _run(request: AdaptRequest, opened: ExitStack) -> Round:
    """The round; raises typer.Exit if it was stopped."""
    from streamseg.adaptation.round import Tools, adapt
    from streamseg.engines.store import EngineStore

    stop = opened.enter_context(stop_on_signals())
    progress = _Steps(opened)
    tools = Tools(EngineStore(), _Reporter(progress), lambda: bool(stop), progress.start, progress.advance)
    done = adapt(request, tools)
    if done is None:
        _stopped(stop)
    assert done is not None
    return done


def _stopped(stop: Stop) -> None:
    say(f"stopped by {stop.cause}; the same command goes on")
    raise typer.Exit(stop.exit_code)


class _Steps:
    """The progress of the training, shown as soon as it begins."""

    def __init__(self, opened: ExitStack) -> None:
        self._opened = opened
        self._progress: Progress | None = None

    def start(self, done: int, steps: int) -> None:
        self._progress = self._opened.enter_context(Progress("training", steps, "steps", done=done))

    def advance(self, done: int, note: str) -> None:
        if self._progress is not None:
            self._progress.advance_to(done, note)

    def say(self, line: str) -> None:
        (say if self._progress is None else self._progress.say)(line)


class _Reporter:
    """Progress of the export beside that of the training."""

    def __init__(self, steps: _Steps) -> None:
        self._steps = steps

    def say(self, line: str) -> None:
        self._steps.say(line)

    def track(self, what: str, items: Sequence[T]) -> Iterator[T]:
        self._steps.say(f"{what}: {len(items)} frames")
        yield from items


def _use(history: History, done: Round, profile: str) -> Round:
    """Let a live profile use the round's engine, and note what it used before."""
    from streamseg.live.config import save_profile

    config = _profile(profile)
    # The note first: after a kill between the two the profile is as before, and an undo changes nothing.
    noted = replace(done, profile=profile, engine_before=config.engine)
    rounds = tuple(noted if one.number == done.number else one for one in history.rounds)
    replace(history, rounds=rounds).write()
    save_profile(profile, replace(config, engine=done.engine))
    return noted


def _profile(name: str) -> LiveConfig:
    """The profile, or the default settings for a new one."""
    from streamseg.live.config import LiveConfig, load_profile, profile_path

    return load_profile(name) if profile_path(name).exists() else LiveConfig()


def _undo(history: History, as_json: bool) -> None:
    """Put the round before into use, and its engine into the profile."""
    from streamseg.live.config import save_profile

    undone, before = history.current, history.before()
    assert undone is not None
    if undone.profile is not None:
        config = _profile(undone.profile)
        if config.engine == undone.engine:
            save_profile(undone.profile, replace(config, engine=undone.engine_before))
            say(f"profile {undone.profile} uses {undone.engine_before or 'the default engine'} again")
        else:
            say(f"profile {undone.profile} uses another engine by now; it stays as it is")
    before.write()
    now = before.current
    say(f"undid round {undone.number}; {'no round' if now is None else f'round {now.number}'} is in use")
    engine = None if now is None else now.engine
    if as_json:
        print_json({"undone": undone.number, "in_use": before.in_use, "engine": engine})
    else:
        put(engine or "default")


def _report(request: AdaptRequest, history: History, done: Round, as_json: bool) -> None:
    from streamseg.adaptation.history import REPORT, WEIGHTS
    from streamseg.adaptation.report import curve_line, with_interval

    folder = history.round_folder(done.number)
    for one in done.figures["structures"]:
        parts = [
            with_interval(one[key], one[f"{key}_interval"], sign=key == "difference")
            for key in ("before", "after", "difference")
        ]
        of = f"{one['structure']}, Dice on {one['images']} held-back frames"
        say(f"{of}: {parts[0]}, now {parts[1]}; {parts[2]}")
    say(
        f"phantoms without nerve that get an outline: {done.figures['false_alarms_before']:.0%}, now "
        f"{done.figures['false_alarms_after']:.0%}"
    )
    say(curve_line(history))
    say(f"report, for this machine only: {folder / REPORT}")
    if done.accepted:
        where = "" if request.out == Path("adapted") else f" --out {request.out}"
        use = f"--engine {done.engine}" if done.profile is None else f"--profile {done.profile}"
        say(f"use it: streamseg live SOURCE {use}")
        say(f"undo: streamseg adapt --name {request.name}{where} --undo")
    if as_json:
        values: dict[str, Any] = {
            **asdict(done),
            "reasons": list(done.reasons),
            "weights": str(folder / WEIGHTS),
            "report": str(folder / REPORT),
        }
        print_json(values)
    elif done.accepted:
        put(done.engine)
