"""The software bill of materials of an installation: CycloneDX 1.6, from what is installed.

Source: the CycloneDX 1.6 specification (ECMA-424). What counts is the environment in which the command runs:
the packages that streamseg needs, directly or not, in the versions that are there. Wheels bundle libraries;
the descriptions of these that some of them hold (PEP 770, folder ``sboms``) are referred to.
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from hashlib import sha256
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from streamseg import __version__
from streamseg.core.errors import UsageError

WEIGHTS = Path(__file__).resolve().parent.parent / "weights"
SPDX = {
    "MIT License": "MIT",
    "Apache Software License": "Apache-2.0",
    "ISC License (ISCL)": "ISC",
    "Mozilla Public License 2.0 (MPL 2.0)": "MPL-2.0",
    "Python Software Foundation License": "PSF-2.0",
    "The Unlicense (Unlicense)": "Unlicense",
}
"""SPDX identifiers of classifiers that mean exactly one licence."""
IDENTIFIER = re.compile(r"[A-Za-z0-9.+-]{2,30}")
UNKNOWN = "not stated"


@dataclass(frozen=True, slots=True)
class Package:
    """A package that is installed."""

    name: str
    version: str
    licence: str
    """An SPDX expression, or the words of the package."""
    is_expression: bool
    needs: tuple[str, ...]
    """Names of the packages that it needs and that are installed."""
    described_in: tuple[str, ...]
    """Files in which it describes the libraries that it bundles, relative to the folder of packages."""
    homepage: str | None

    @property
    def reference(self) -> str:
        """Its package URL."""
        return f"pkg:pypi/{self.name}@{self.version}"


def installed_packages(extras: Sequence[str] = ()) -> list[Package]:
    """What streamseg needs here, by name, without streamseg; ``extras``: with what these add.

    Raises UsageError if streamseg is not installed, or has no such extra.
    """
    try:
        own = distribution("streamseg")
    except PackageNotFoundError as error:
        raise UsageError("streamseg is not installed as a package here; install it with pip") from error
    known = own.metadata.get_all("Provides-Extra") or []
    if unknown := [extra for extra in extras if extra not in known]:
        raise UsageError(f"streamseg has no extra {unknown[0]!r}; there are {', '.join(sorted(known))}")
    found: dict[str, Package] = {}
    queue = list(_needs(own, ("", *extras)))
    while queue:
        name, wanted = queue.pop()
        try:
            there = distribution(name)
        except PackageNotFoundError:
            continue  # needed by an extra that is not installed
        below = list(_needs(there, ("", *wanted)))
        if name in found and {need for need, _ in below} <= set(found[name].needs):
            continue
        found[name] = _package(name, there, below)
        queue += below
    found.pop("streamseg", None)
    return [found[name] for name in sorted(found)]


def _needs(there: Distribution, extras: Sequence[str]) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Requirements that hold here, with the extras that they ask for."""
    for text in there.requires or ():
        need = Requirement(text)
        if need.marker is None or any(need.marker.evaluate({"extra": extra}) for extra in extras):
            yield str(canonicalize_name(need.name)), tuple(sorted(need.extras))


def _package(name: str, there: Distribution, below: Sequence[tuple[str, tuple[str, ...]]]) -> Package:
    licence, is_expression = _licence(there)
    boms = tuple(str(path) for path in there.files or () if "/sboms/" in str(path))
    pages = {
        label.strip().lower(): url.strip()
        for label, _, url in (text.partition(",") for text in there.metadata.get_all("Project-URL") or ())
    }
    page = there.metadata["Home-page"] or pages.get("homepage") or pages.get("source")
    needs = tuple(sorted({need for need, _ in below if _is_installed(need)}))
    return Package(name, there.version, licence, is_expression, needs, boms, page)


def _is_installed(name: str) -> bool:
    try:
        distribution(name)
    except PackageNotFoundError:
        return False
    return True


def _licence(there: Distribution) -> tuple[str, bool]:
    """The licence, and whether it is an SPDX expression."""
    if expression := there.metadata["License-Expression"]:
        return str(expression), True
    classifiers = [
        text.rpartition(" :: ")[2]
        for text in there.metadata.get_all("Classifier") or ()
        if text.startswith("License :: ") and not text.endswith("OSI Approved")
    ]
    if len(classifiers) == 1 and classifiers[0] in SPDX:
        return SPDX[classifiers[0]], True
    lines = (there.metadata["License"] or "").strip().splitlines()
    words = lines[0].strip() if lines and len(lines) <= 2 else ""
    if words and IDENTIFIER.fullmatch(words):
        return words, False
    return " or ".join(classifiers) or words[:80] or UNKNOWN, False


def sbom(extras: Sequence[str] = ()) -> dict[str, Any]:
    """The CycloneDX document; the same installation gives the same one. Raises UsageError."""
    packages = installed_packages(extras)
    own = f"pkg:pypi/streamseg@{__version__}"
    direct = sorted({name for name, _ in _needs(distribution("streamseg"), ("", *extras))})
    references = {package.name: package.reference for package in packages}
    document = {
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": {
            "component": {
                "type": "application",
                "bom-ref": own,
                "name": "streamseg",
                "version": __version__,
                "purl": own,
                "licenses": [{"license": {"id": "Apache-2.0"}}],
            }
        },
        "components": [*map(_component, packages), *_weights()],
        "dependencies": [
            {"ref": own, "dependsOn": [references[name] for name in direct if name in references]},
            *(
                {
                    "ref": package.reference,
                    "dependsOn": [references[need] for need in package.needs if need in references],
                }
                for package in packages
            ),
        ],
    }
    return {**document, "serialNumber": uuid.uuid5(uuid.NAMESPACE_URL, repr(document)).urn}


def _component(package: Package) -> dict[str, Any]:
    licence: dict[str, Any] = (
        {"expression": package.licence} if package.is_expression else {"license": {"name": package.licence}}
    )
    links = [{"type": "bom", "url": path} for path in package.described_in]
    if package.homepage:
        links.append({"type": "website", "url": package.homepage})
    return {
        "type": "library",
        "bom-ref": package.reference,
        "name": package.name,
        "version": package.version,
        "purl": package.reference,
        "licenses": [licence],
        **({"externalReferences": links} if links else {}),
    }


def _weights() -> Iterator[dict[str, Any]]:
    """The weights and engines that ship with the package."""
    for path in sorted([*WEIGHTS.glob("*.safetensors"), *WEIGHTS.glob("*/model.bin")]):
        name = path.relative_to(WEIGHTS).as_posix()
        yield {
            "type": "machine-learning-model",
            "bom-ref": f"weights/{name}",
            "name": name,
            "hashes": [{"alg": "SHA-256", "content": sha256(path.read_bytes()).hexdigest()}],
            "licenses": [{"license": {"id": "Apache-2.0"}}],
            "description": "trained on usgra-seg by T. M. K. (CC BY 4.0) and on synthetic images",
        }


def licence_table(packages: Sequence[Package]) -> str:
    """Packages with their licences as a table in Markdown."""
    rows = [f"| {package.name} | {package.version} | {package.licence} |" for package in packages]
    return "\n".join(["| package | version | licence |", "|---|---|---|", *rows])
