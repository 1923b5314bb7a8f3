"""The exception tree: exit codes, and the drawing in the docstring."""

import inspect

import pytest

from streamseg.core import errors
from streamseg.core.errors import MissingExtra, StreamsegError, UsageError, is_programming_error, one_line

TREE = [
    kind
    for _, kind in inspect.getmembers(errors, inspect.isclass)
    if issubclass(kind, StreamsegError) and kind is not StreamsegError
]


@pytest.mark.parametrize("kind", TREE)
def test_exit_codes(kind: type[StreamsegError]) -> None:
    assert kind.exit_code == (2 if issubclass(kind, UsageError) else 1)


@pytest.mark.parametrize("kind", TREE)
def test_every_error_is_in_the_drawing(kind: type[StreamsegError]) -> None:
    assert errors.__doc__ is not None
    assert f"-- {kind.__name__} " in errors.__doc__


def test_a_missing_extra_says_what_to_install() -> None:
    text = str(MissingExtra("the eager back end", "torch", "train"))
    assert text == (
        "the eager back end needs the package 'torch', which is not installed; "
        "install it with: pip install 'streamseg[train]'"
    )


def test_one_line_joins_lines_and_blanks_and_drops_the_path_of_an_os_error() -> None:
    assert one_line(" a\n\tb   c ") == "a b c"
    assert one_line(OSError(28, "No space left on device", "/x")) == "No space left on device"
    assert one_line(ValueError()) == "ValueError"
    assert one_line("a long text", 6) == "a long"


def raised(code: str, name: str) -> BaseException:
    try:
        exec(compile(code, name, "exec"), {"__name__": name})  # as a module of that name
    except Exception as error:
        return error
    raise AssertionError("nothing was raised")


def test_faults_of_the_program_are_told_from_damaged_files() -> None:
    """A library of another version refuses a keyword: that is no damage, wherever it is raised."""
    refused = raised("def f(): pass\nf(threads=1)", "pydicom.pixels")
    assert is_programming_error(refused)
    assert is_programming_error(refused, "pydicom")
    assert is_programming_error(raised("undefined", "streamseg.capture"), "pydicom")
    assert is_programming_error(raised("None.x", "streamseg.capture"), "pydicom")
    assert not is_programming_error(raised("None.x", "pydicom.filereader"), "pydicom", "PIL")
    assert not is_programming_error(raised("int(None)", "pydicom.filereader"), "pydicom")
    assert not is_programming_error(raised("int('x')", "streamseg.capture"))
    assert not is_programming_error(OSError())
