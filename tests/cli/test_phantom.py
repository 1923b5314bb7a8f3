import json

import pytest
import typer
from typer.testing import CliRunner

from streamseg.cli.phantom import phantom
from streamseg.core.errors import UsageError


@pytest.fixture
def run():
    app = typer.Typer()
    app.command()(phantom)
    return lambda *arguments: CliRunner().invoke(app, [str(a) for a in arguments])


def test_path_goes_to_stdout_and_the_rest_to_stderr(run, tmp_path):
    result = run("--out", tmp_path / "set", "--images", 2, "--subjects", 1)
    assert result.exit_code == 0
    assert result.stdout == f"{tmp_path / 'set'}\n"
    assert "2 images of 1 subjects" in result.stderr
    assert len(list((tmp_path / "set" / "train").iterdir())) == 4


def test_json_is_one_object_on_one_line(run, tmp_path):
    result = run("--out", tmp_path / "set", "--images", 3, "--subjects", 1, "--seed", 4, "--json")
    values = json.loads(result.stdout)
    assert result.stdout.count("\n") == 1
    assert values == {
        "out": str(tmp_path / "set"),
        "images": 3,
        "subjects": 1,
        "nerve_images": 1,
        "seed": 4,
    }


def test_an_output_that_exists_needs_force(run, tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    assert isinstance(run("--out", tmp_path, "--images", 1, "--subjects", 1).exception, UsageError)
    assert run("--out", tmp_path, "--images", 1, "--subjects", 1, "--force").exit_code == 0
