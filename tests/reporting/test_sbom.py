"""The bill of materials: complete, of what is installed, and the same each time."""

from __future__ import annotations

import json
import re
from importlib.metadata import version
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from streamseg import __version__
from streamseg.cli import main
from streamseg.core.errors import UsageError
from streamseg.reporting.sbom import installed_packages, sbom
from tests.test_project import PROJECT

LICENCES = Path(__file__).resolve().parents[2] / "docs" / "licences.md"


def test_every_base_requirement_is_a_component_with_its_version_and_licence() -> None:
    document = sbom()
    found = {part["name"]: part for part in document["components"]}
    for requirement in map(Requirement, PROJECT["dependencies"]):
        part = found[requirement.name]
        assert part["version"] == version(requirement.name)
        assert part["purl"] == f"pkg:pypi/{requirement.name}@{part['version']}"
        (licence,) = part["licenses"]
        assert licence.get("expression") or licence["license"]["name"] != "not stated"
    assert "click" in found, "what is needed by what is needed"
    assert not {"torch", "pytest", "streamseg"} & found.keys()
    model = found["improved_unet.safetensors"]
    assert model["type"] == "machine-learning-model"
    assert re.fullmatch("[0-9a-f]{64}", model["hashes"][0]["content"])


def test_the_document_is_whole_and_the_same_each_time() -> None:
    document = sbom()
    assert document == sbom()
    assert (document["bomFormat"], document["specVersion"]) == ("CycloneDX", "1.6")
    assert document["metadata"]["component"]["version"] == __version__
    assert re.fullmatch("urn:uuid:[0-9a-f-]{36}", document["serialNumber"])
    parts = [part["bom-ref"] for part in document["components"]]
    assert len(parts) == len(set(parts))
    known = {*parts, document["metadata"]["component"]["bom-ref"]}
    for line in document["dependencies"]:
        assert {line["ref"], *line["dependsOn"]} <= known
    assert len(document["dependencies"][0]["dependsOn"]) == len(PROJECT["dependencies"])


def test_extras_add_their_packages() -> None:
    assert {"torch", "tensorboard"} <= {package.name for package in installed_packages(["train"])}
    with pytest.raises(UsageError, match="streamseg has no extra 'nothing'; there are "):
        installed_packages(["nothing"])


def test_the_command_writes_and_does_not_overwrite(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "a.cdx.json"
    assert main(["sbom", "--out", str(out)]) == 0
    assert json.loads(out.read_text()) == sbom()
    assert main(["sbom", "--out", str(out)]) == 2
    assert "overwrite it with --force" in capsys.readouterr().err
    assert main(["sbom"]) == 0
    assert json.loads(capsys.readouterr().out) == sbom()
    assert main(["sbom", "--licences"]) == 0
    assert "| fastcrc | " in capsys.readouterr().out


def test_the_list_of_licences_has_every_package() -> None:
    listed = re.findall(r"^\| ([a-z0-9-]+) \| [^|]+ \| [^|]+ \|$", LICENCES.read_text(), re.MULTILINE)
    assert {"package", *(package.name for package in installed_packages())} == set(listed)
