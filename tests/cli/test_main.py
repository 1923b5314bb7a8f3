"""The command line as a whole: help, exit codes, and error messages."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from streamseg import __version__, cli
from streamseg.cli import main
from streamseg.core.errors import EngineError, UsageError

HEAVY = ("numpy", "cv2", "av", "openvino", "torch", "pydicom", "rich")


def run(*arguments: str, code: str | None = None) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", code] if code else [sys.executable, "-m", "streamseg", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def failing(error: BaseException, monkeypatch: pytest.MonkeyPatch) -> int:
    """Exit code of a command that raises."""

    def invoke(*_: object) -> None:
        raise error

    monkeypatch.setattr(cli.typer.core.TyperGroup, "invoke", invoke)
    return main(["doctor"])


def test_help_lists_the_commands_and_imports_nothing_heavy() -> None:
    code = (
        "import sys; from streamseg.cli import main; code = main(['--help']);"
        f"print(code, [name for name in {HEAVY} if name in sys.modules])"
    )
    done = run(code=code)
    assert done.stderr == ""
    assert done.stdout.splitlines()[-1] == "0 []"
    assert "Research software, not a medical device." in " ".join(done.stdout.split())
    for command in ("replay", "evaluate", "phantom", "doctor"):
        assert f"  {command} " in done.stdout


@pytest.mark.parametrize("command", ["replay", "evaluate", "phantom", "doctor"])
def test_every_command_has_help(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([command, "--help"]) == 0
    assert f"Usage: streamseg {command}" in capsys.readouterr().out


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"streamseg {__version__}\n"


def test_a_missing_command_is_wrong_usage(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert "Usage: streamseg" in err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["qqq"], "error: No such command 'qqq'; see 'streamseg --help'"),
        (["replay", "--qwerty", "x"], "error: No such option: --qwerty; see 'streamseg replay --help'"),
        (["replay"], "error: Missing argument 'SOURCE'; see 'streamseg replay --help'"),
        (["replay", "x", "--max-frames", "0"], "error: Invalid value for '--max-frames': "),
        (["replay", "x", "--start", "soon"], "error: Invalid value for '--start': "),
        (["evaluate", "x", "--limit", "-1"], "error: Invalid value for '--limit': "),
    ],
)
def test_a_wrong_call_is_one_line(
    arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith(said)
    assert err.count("\n") == 1


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (UsageError("no such\nthing; do this"), 2, "error: no such thing; do this\n"),
        (EngineError("damaged; export again"), 1, "error: damaged; export again\n"),
        (KeyboardInterrupt(), 130, "error: interrupted\n"),
        (
            OSError(28, "No space left on device"),
            1,
            "error: system error: No space left on device; STREAMSEG_DEBUG=1 shows where it happened\n",
        ),
        (
            ZeroDivisionError("division by zero"),
            1,
            "error: unexpected ZeroDivisionError: division by zero; "
            "STREAMSEG_DEBUG=1 shows where, please report it\n",
        ),
    ],
)
def test_errors_become_one_line_and_a_code(
    error: BaseException,
    code: int,
    said: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert failing(error, monkeypatch) == code
    assert capsys.readouterr() == ("", said)


def test_the_debug_switch_shows_the_traceback(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("STREAMSEG_DEBUG", "1")
    assert failing(EngineError("damaged"), monkeypatch) == 1
    err = capsys.readouterr().err
    assert "Traceback" in err
    assert err.endswith("error: damaged\n")


def test_a_reader_that_leaves_is_not_an_error() -> None:
    command = f"{sys.executable} -m streamseg --help | true"
    done = subprocess.run(
        ["bash", "-c", f"set -o pipefail; {command}"], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.stderr == ""
    assert done.returncode in (0, 141)


@pytest.mark.parametrize(
    ("redirection", "code"), [(">&-", 0), ("2>&-", 0), (">&- 2>&-", 0), ("> /dev/full", 1)]
)
def test_closed_and_full_streams_are_handled(redirection: str, code: int) -> None:
    done = subprocess.run(
        ["bash", "-c", f"{sys.executable} -m streamseg --version {redirection}"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == code
    assert "Traceback" not in done.stderr
    assert done.stderr.count("\n") == (1 if code else 0)


def test_sigterm_unwinds_a_command_that_does_not_handle_it() -> None:
    code = (
        "import sys, time; from streamseg import cli\n"
        "def invoke(*_):\n"
        "    print('ready', flush=True)\n"
        "    try: time.sleep(60)\n"
        "    finally: print('closed', flush=True)\n"
        "cli.typer.core.TyperGroup.invoke = invoke\n"
        "sys.exit(cli.main(['doctor']))"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        time.sleep(0.1)
        os.kill(process.pid, signal.SIGTERM)
        out, err = process.communicate(timeout=30)
    assert (process.returncode, out, err) == (143, "closed\n", "error: stopped by SIGTERM\n")


def without_torch(arguments: list[str], folder: Path) -> subprocess.CompletedProcess[str]:
    """Run the command in a process that has no torch."""
    code = (
        f"import sys; sys.modules['torch'] = None; from streamseg.cli import main;sys.exit(main({arguments}))"
    )
    return subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        cwd=folder,
        env={**os.environ, "STREAMSEG_ENGINES": str(folder / "engines")},
    )


@pytest.mark.parametrize(
    ("arguments", "extra"),
    [
        (["export", "unet", "--size", "64x64"], "export"),
        (["train", "phantom:4"], "train"),
        (["reproduce", "phantom:4", "--out", "report"], "train"),
    ],
)
def test_without_torch_the_extra_is_named(arguments: list[str], extra: str, tmp_path: Path) -> None:
    done = without_torch(arguments, tmp_path)
    assert done.returncode in (1, 2)
    assert f"pip install 'streamseg[{extra}]'" in done.stderr.splitlines()[-1]
    assert "unexpected" not in done.stderr
    assert not (tmp_path / "report").exists()


@pytest.mark.slow
def test_without_torch_peers_that_need_none_are_measured(tmp_path: Path) -> None:
    done = without_torch(["bench", "peers", "--kind", "runtime", "--quick", "--size", "64x64"], tmp_path)
    assert done.returncode == 0
    assert "pip install 'streamseg[bench]'" in done.stderr
    assert "unexpected" not in done.stderr


def test_comparing_runtimes_needs_no_torch() -> None:
    code = "import sys; sys.modules['torch'] = None; import streamseg.benchmark.peers.bench"
    assert run(code=code).returncode == 0
