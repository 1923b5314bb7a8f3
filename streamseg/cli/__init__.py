"""The command ``streamseg``: one file per command, registered here.

To add one, write ``cli/<name>.py`` with a function whose annotated parameters are its options, and add it to
the list below. Commands import heavy modules inside their bodies, so that ``streamseg --help`` stays quick.
"""

from __future__ import annotations

import atexit
import io
import os
import signal
import sys
import threading
import traceback
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Annotated

import typer

from streamseg import __version__
from streamseg.cli.adapt import adapt
from streamseg.cli.archive import archive
from streamseg.cli.bench import bench
from streamseg.cli.check import check
from streamseg.cli.console import Interrupted, cause_of, forgiving_stderr, hang_up, say
from streamseg.cli.dicom import dicom
from streamseg.cli.doctor import doctor
from streamseg.cli.engines import engines
from streamseg.cli.evaluate import evaluate
from streamseg.cli.export import export
from streamseg.cli.import_labels import import_labels
from streamseg.cli.live import live
from streamseg.cli.phantom import phantom
from streamseg.cli.replay import replay
from streamseg.cli.reproduce import reproduce
from streamseg.cli.sbom import sbom
from streamseg.cli.select import select
from streamseg.cli.submit import submit
from streamseg.cli.train import train
from streamseg.core.errors import StreamsegError, one_line

DEBUG_SWITCH = "STREAMSEG_DEBUG"
"""Environment variable; 1 prints the traceback of every error."""

app = typer.Typer(
    name="streamseg",
    rich_markup_mode=None,  # plain help takes a third of the time
    pretty_exceptions_enable=False,
    add_completion=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
for _command in (
    live,
    replay,
    archive,
    select,
    evaluate,
    phantom,
    check,
    train,
    adapt,
    reproduce,
    submit,
    export,
    doctor,
    sbom,
):
    app.command()(_command)
app.command("import")(import_labels)
app.add_typer(dicom)
app.add_typer(engines)
app.add_typer(bench)


@app.callback(invoke_without_command=True)
def streamseg(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="Print the version and exit.")] = False,
) -> None:
    """Outline nerves in ultrasound video. Research software, not a medical device.

    Results go to stdout and files, messages to stderr. Exit codes: 0 success, 1 failure, 2 wrong usage, 130,
    143 and 129 stopped by Ctrl-C, SIGTERM or SIGHUP with all files finished. STREAMSEG_DEBUG=1 prints an
    error's traceback.
    """
    if version:
        typer.echo(f"streamseg {__version__}")
        raise typer.Exit
    if context.invoked_subcommand is None:
        typer.echo(context.get_help(), err=True)
        raise typer.Exit(2)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code.

    ``arguments`` are those after the program's name; None takes those of the process, which then ends with
    this code even if a thread hangs.
    """
    with forgiving_stderr():
        if arguments is not None:
            return _main(arguments)
        before = set(threading.enumerate())
        code = _main(None)
    if left := set(threading.enumerate()) - before:
        # The last one registered is called first: before libraries that would wait for their threads.
        atexit.register(_leave, code, left)
    return code


def _leave(code: int, left: Collection[threading.Thread]) -> None:
    """End the process with this exit code, unless all of these threads have ended by now.

    Nothing can end a thread that hangs or computes in a library, as after Ctrl-C while a net is compiled, and
    a library that returns while the interpreter shuts down aborts the process: exit code 134 instead of 130.
    """
    if any(thread.is_alive() for thread in left):
        for stream in (sys.stdout, sys.stderr):
            with suppress(AttributeError, OSError, ValueError):  # none, a reader that left, closed
                stream.flush()
        os._exit(code)


def _main(arguments: Sequence[str] | None) -> int:
    """:func:`main`, and the only place where exceptions become messages."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # file names may be invalid text
    command = typer.main.get_command(app)
    given = list(sys.argv[1:] if arguments is None else arguments)
    try:
        with _terminable(), command.make_context("streamseg", given) as context:
            command.invoke(context)
        if sys.stdout is not None:
            sys.stdout.flush()
    except typer.Exit as done:
        return done.exit_code
    except BrokenPipeError:
        return _reader_left()
    except (Exception, KeyboardInterrupt, Terminated) as error:
        if os.environ.get(DEBUG_SWITCH, "0") not in ("", "0"):
            say(traceback.format_exc().rstrip())
        message, code = _explain(error)
        say(f"error: {message}")
        return code
    return 0


def _explain(error: BaseException) -> tuple[str, int]:
    """The error as one line for the user, and the exit code."""
    if isinstance(error, StreamsegError):
        return one_line(error), error.exit_code
    if isinstance(error, typer.TyperException):
        context = getattr(error, "ctx", None)
        path = context.command_path if context else "streamseg"
        return f"{one_line(error.format_message()).rstrip('.')}; see '{path} --help'", error.exit_code
    if isinstance(error, Terminated | Interrupted) and error.signal != signal.SIGINT:
        return f"stopped by {cause_of(error.signal)}", 128 + error.signal
    if isinstance(error, KeyboardInterrupt | typer.Abort):
        return "interrupted", 130
    if isinstance(error, OSError) and error.strerror:
        where = f" ({error.filename})" if error.filename else ""
        return f"system error: {error.strerror}{where}; {DEBUG_SWITCH}=1 shows where it happened", 1
    what = f"{type(error).__name__}: {one_line(str(error))}".removesuffix(": ")
    return f"unexpected {what}; {DEBUG_SWITCH}=1 shows where, please report it", 1


class Terminated(BaseException):
    """SIGTERM or SIGHUP arrived while no command handled it; unwinds the stack so that files are closed."""

    def __init__(self, number: signal.Signals) -> None:
        super().__init__()
        self.signal = number


@contextmanager
def _terminable() -> Iterator[None]:
    """Make SIGTERM and SIGHUP unwind the stack, as Ctrl-C does, instead of killing the process at once."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def unwind(number: int, _: object) -> None:
        raise Terminated(signal.Signals(number))

    previous = {number: signal.signal(number, unwind) for number in (signal.SIGTERM, *hang_up())}
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


def _reader_left() -> int:
    """The reader of stdout closed it (``| head``): not an error, and nobody is left to report it to."""
    # Python flushes stdout once more on exit; redirect it to where that cannot fail.
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 141
