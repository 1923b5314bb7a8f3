"""Labels survive every labelling format, and what is bad in one is named in a line.

What the programs write is made here by hand from their documented formats; ``test_counterparts.py`` asks the
programs themselves.
"""

from __future__ import annotations

import base64
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image as Pillow

from streamseg.annotation.formats import FORMATS, format_of, label_studio, recognise
from streamseg.annotation.formats.reading import Reading
from streamseg.annotation.formats.shapes import fill_by_centres, fill_by_edges, of_runs, points_of, runs_of
from streamseg.annotation.frames import by_name
from tests.annotation.selections import HEIGHT, WIDTH, disc, make_frames, make_masks, ring, write_selection

FRAMES = make_frames()


def read(path: Path, format_name: str) -> Reading:
    reading = Reading(by_name(FRAMES))
    format_of(format_name).read(path, reading)
    return reading


def submit(folder: Path) -> None:
    """Label Studio: a person submits the predictions as they are."""
    path = folder / "tasks.json"
    tasks = json.loads(path.read_text())
    for task in tasks:
        task["annotations"] = [{"result": task["predictions"][0]["result"], "was_cancelled": False}]
    path.write_text(json.dumps(tasks))


@pytest.mark.parametrize("name", FORMATS)
def test_masks_are_the_same_there_and_back(tmp_path: Path, name: str) -> None:
    write_selection(tmp_path, name, {number: make_masks(number) for number in range(4)})
    if name == "labelstudio":
        submit(tmp_path)
    assert recognise(tmp_path) == name
    reading = read(tmp_path, name)
    assert reading.problems == []
    assert [labels.name for labels in reading.labels] == [frame.name for frame in FRAMES]
    for number, labels in enumerate(reading.labels):
        for structure, mask in make_masks(number).items():
            found = labels.masks.get(structure, np.zeros_like(mask))
            np.testing.assert_array_equal(found, mask, f"{name}, {number}, {structure}")


@pytest.mark.parametrize("name", FORMATS)
def test_a_format_is_recognised_without_the_selection(tmp_path: Path, name: str) -> None:
    write_selection(tmp_path, name, {0: make_masks(0)})
    (tmp_path / "selection.json").unlink()
    assert recognise(tmp_path) == name
    single = {"cvat": "annotations.xml", "coco": "annotations.json", "labelstudio": "tasks.json"}.get(name)
    assert single is None or recognise(tmp_path / single) == name


@pytest.mark.parametrize("mask", [ring(), np.zeros((5, 7), np.bool_), np.ones((5, 7), np.bool_)])
def test_runs_are_exact(mask: Any) -> None:
    np.testing.assert_array_equal(of_runs(runs_of(mask.ravel()), mask.size).reshape(mask.shape), mask)
    np.testing.assert_array_equal(label_studio.unpacked(label_studio.packed(mask), *mask.shape), mask)


def test_a_brush_region_begins_as_label_studio_writes_it() -> None:
    # The first bytes of a mask of 3332x2527 in a project exported from Label Studio.
    assert label_studio.packed(np.zeros((2527, 3332), np.bool_))[:7] == [2, 1, 233, 240, 57, 27, 255]


def test_a_brush_region_may_hold_values_one_by_one() -> None:
    # 2x1 pixels, the second one set: eight values of 8 bits in one chunk, its length in 3 bits.
    bits = f"{8:032b}{7:05b}" + "0010001101111111" + "000111" + "00000000" * 4 + "11111111" * 4
    bits += "0" * (-len(bits) % 8)
    data = list(int(bits, 2).to_bytes(len(bits) // 8, "big"))
    assert label_studio.unpacked(data, 1, 2).tolist() == [[False, True]]


def test_polygons_count_from_edges_or_from_centres() -> None:
    square = points_of([(2, 1), (5, 1), (5, 4), (2, 4)])
    by_edges, by_centres = fill_by_edges(square, 6, 8), fill_by_centres(square, 6, 8)
    assert by_edges.sum() == 9
    assert by_edges[1:4, 2:5].all()
    assert by_centres.sum() == 16
    assert by_centres[1:5, 2:6].all()


def test_a_polygon_may_leave_the_image() -> None:
    assert fill_by_edges(points_of([(-5, -5), (20, -5), (20, 20), (-5, 20)]), 6, 8).all()


def coco(annotation: dict[str, Any], **image: Any) -> str:
    entry = {"id": 7, "file_name": f"{FRAMES[1].name}.png", "width": WIDTH, "height": HEIGHT, **image}
    return json.dumps(
        {
            "images": [entry],
            "annotations": [{"id": 1, "image_id": 7, "category_id": 3, **annotation}],
            "categories": [{"id": 3, "name": "plexus"}],
        }
    )


def test_coco_as_others_write_it(tmp_path: Path) -> None:
    path = tmp_path / "instances_default.json"
    # A square of 3x2 at (2, 1) as a polygon through pixel edges.
    path.write_text(coco({"segmentation": [[2, 1, 5, 1, 5, 3, 2, 3]]}))
    (labels,) = read(path, "coco").labels
    assert labels.masks["plexus"].sum() == 6
    assert labels.masks["plexus"][1:3, 2:5].all()
    assert not labels.looked_at


def test_coco_packed_run_lengths(tmp_path: Path) -> None:
    """The text that pycocotools makes of a mask, by its own rule."""
    mask = disc(30, 20, 6)
    runs, text = runs_of(mask.ravel(order="F")), ""
    for place, run in enumerate(runs):
        value = run - runs[place - 2] if place > 2 else run
        more = True
        while more:
            group, value = value & 31, value >> 5
            more = value != -1 if group & 16 else value != 0
            text += chr((group | 32 if more else group) + 48)
    path = tmp_path / "a.json"
    path.write_text(coco({"segmentation": {"size": [HEIGHT, WIDTH], "counts": text}}))
    (labels,) = read(path, "coco").labels
    np.testing.assert_array_equal(labels.masks["plexus"], mask)


def labelme_shape(**changes: Any) -> dict[str, Any]:
    return {
        "label": "nerve",
        "points": [[2, 1], [5, 1], [5, 4]],
        "shape_type": "polygon",
        "flags": {},
        **changes,
    }


def labelme(shapes: list[dict[str, Any]], **changes: Any) -> str:
    document = {
        "version": "5.5.0",
        "flags": {"looked at": True},
        "shapes": shapes,
        "imagePath": f"..\\images\\{FRAMES[1].name}.png",
        "imageData": None,
        "imageHeight": HEIGHT,
        "imageWidth": WIDTH,
        **changes,
    }
    return json.dumps(document)


def test_labelme_as_it_writes_a_mask(tmp_path: Path) -> None:
    """A mask as labelme's own tool saves it: the PNG of the box, and the box's corners, both inclusive."""
    part = np.array([[0, 1, 1], [1, 1, 0]], np.uint8)
    data = io.BytesIO()
    Pillow.fromarray(part.astype(bool)).save(data, "PNG")
    shape = labelme_shape(
        shape_type="mask",
        points=[[4.0, 6.0], [6.0, 7.0]],
        mask=base64.encodebytes(data.getvalue()).decode(),
    )
    (tmp_path / "a.json").write_text(labelme([shape]))
    (labels,) = read(tmp_path, "labelme").labels
    assert labels.looked_at
    np.testing.assert_array_equal(labels.masks["nerve"][6:8, 4:7], part.astype(bool))
    assert labels.masks["nerve"].sum() == 4


def cvat(shapes: str, **changes: Any) -> str:
    image = {"name": f"{FRAMES[1].name}.png", "width": WIDTH, "height": HEIGHT, **changes}
    attributes = " ".join(f'{key}="{value}"' for key, value in image.items())
    return f'<?xml version="1.0"?><annotations><image id="0" {attributes}>{shapes}</image></annotations>'


def test_cvat_as_others_write_it(tmp_path: Path) -> None:
    path = tmp_path / "annotations.xml"
    path.write_text(
        cvat(
            '<polygon label="nerve" points="2.00,1.00;5.00,1.00;5.00,3.00;2.00,3.00" z_order="0"/>'
            '<mask label="vessel" rle="1, 2, 2, 1" left="10" top="20" width="3" height="2"></mask>'
            '<box label="nerve" xtl="20" ytl="20" xbr="22" ybr="21"/>'
            '<tag label="looked at" source="manual"></tag>'
        )
    )
    (labels,) = read(path, "cvat").labels
    assert labels.looked_at
    assert labels.masks["nerve"].sum() == 6 + 2
    assert labels.masks["vessel"][20:22, 10:13].tolist() == [[False, True, True], [False, False, True]]


def task(result: list[dict[str, Any]], **changes: Any) -> str:
    return json.dumps(
        [
            {
                "id": 5,
                "data": {"image": f"/data/upload/1/a1b2c3d4-{FRAMES[1].name}.png"},
                "annotations": [{"result": result, "was_cancelled": False}],
                "predictions": [],
                **changes,
            }
        ]
    )


def region(**changes: Any) -> dict[str, Any]:
    return {
        "type": "polygonlabels",
        "original_width": WIDTH,
        "original_height": HEIGHT,
        "image_rotation": 0,
        "value": {"points": [[0, 0], [50, 0], [50, 100], [0, 100]], "polygonlabels": ["nerve"]},
        **changes,
    }


def test_label_studio_as_it_exports(tmp_path: Path) -> None:
    path = tmp_path / "project-1.json"
    path.write_text(task([region()]))
    (labels,) = read(path, "labelstudio").labels
    assert labels.looked_at
    assert labels.masks["nerve"][:, : WIDTH // 2].all()
    assert not labels.masks["nerve"][:, WIDTH // 2 + 1 :].any()


@pytest.mark.parametrize(("annotations", "count"), [([], 0), ([{"result": [], "was_cancelled": True}], 0)])
def test_label_studio_skipped_tasks_are_not_looked_at(
    tmp_path: Path, annotations: list[dict[str, Any]], count: int
) -> None:
    path = tmp_path / "project-1.json"
    path.write_text(task([], annotations=annotations))
    assert len(read(path, "labelstudio").labels) == count
    path.write_text(task([]))
    (labels,) = read(path, "labelstudio").labels
    assert labels.looked_at
    assert not labels.masks


FOREIGN = "no-such-frame.png"
BAD = {
    "labelme": [
        (labelme([labelme_shape(points=[[1, 2], [3, 4]])]), "a polygon has 2 points; it needs 3 or more"),
        (labelme([], imageWidth=WIDTH + 1), f"is {WIDTH + 1}x{HEIGHT}, the image is {WIDTH}x{HEIGHT}"),
        (labelme([], imagePath=FOREIGN), "there is no frame 'no-such-frame'"),
        (labelme([labelme_shape(shape_type="circle")]), "a shape of type 'circle' has no area"),
        (labelme([labelme_shape(shape_type="mask", mask="!!")]), "a mask is not a PNG in base 64"),
        (labelme([labelme_shape(label=None)]), "a label has no name"),
        (labelme([labelme_shape(points=[["x", 1], [2, 3], [4, 5]])]), "a corner of a polygon is not a pair"),
        (labelme([])[:-9], "it is not JSON"),
        ("[]", "it is not a file of labelme"),
        ('{"shapes": [{}]}', "there is no frame 'a'"),
    ],
    "cvat": [
        (cvat('<polygon label="nerve" points="1,2;3,4"/>'), "a polygon has 2 points"),
        (cvat("", width=WIDTH + 1), f"is {WIDTH + 1}x{HEIGHT}"),
        (cvat("", name=FOREIGN), "there is no frame 'no-such-frame'"),
        (
            cvat('<mask label="nerve" rle="1, 2" left="0" top="0" width="3" height="2"/>'),
            "cover 3 pixels of 6",
        ),
        (cvat('<mask label="nerve" rle="6" left="51" top="0" width="3" height="2"/>'), "reaches outside"),
        (cvat('<mask label="nerve" rle="x" left="0" top="0" width="1" height="1"/>'), "not whole numbers"),
        (cvat('<polyline label="nerve" points="1,2;3,4"/>'), "a 'polyline' has no area"),
        (cvat("")[:-9], "it is not XML"),
        ('<!DOCTYPE a [<!ENTITY b "c">]><annotations/>', "it declares a document type"),
        ("<annotations><track/></annotations>", "it is 'CVAT for video'"),
    ],
    "coco": [
        (coco({"segmentation": [[1, 2, 3, 4]]}), "a polygon has 2 points"),
        (coco({"segmentation": [[1, 2, 3]]}), "an odd number of coordinates"),
        (coco({"segmentation": []}, width=WIDTH + 1), f"is {WIDTH + 1}x{HEIGHT}"),
        (coco({"segmentation": []}, file_name=FOREIGN), "there is no frame 'no-such-frame'"),
        (coco({"segmentation": {"size": [3, 4], "counts": [12]}}), "a mask is 4x3, its image 53x37"),
        (coco({"segmentation": {"size": [HEIGHT, WIDTH], "counts": [5]}}), "cover 5 pixels of 1961"),
        (coco({"segmentation": {"size": [HEIGHT, WIDTH], "counts": "zz"}}), "packed run lengths"),
        (coco({"segmentation": [[1, 1, 2, 2, 3, 3]], "category_id": 9}), "category 9, which has no name"),
        (coco({"segmentation": [], "image_id": 8}), "an annotation is of image 8, which the file lacks"),
        (coco({})[:-9], "it is not JSON"),
        ('{"images": []}', "it lacks 'categories'"),
    ],
    "labelstudio": [
        (task([region(value={"points": [[1, 2], [3, 4]], "polygonlabels": ["nerve"]})]), "has 2 points"),
        (task([region(original_width=WIDTH + 1)]), f"is {WIDTH + 1}x{HEIGHT}"),
        (task([region()], data={"image": FOREIGN}), "there is no frame 'no-such-frame'"),
        (task([region(type="ellipselabels", value={"ellipselabels": ["nerve"]})]), "no area"),
        (task([region(image_rotation=90)]), "was rotated"),
        (
            task(
                [region(type="brushlabels", value={"format": "rle", "rle": [0, 0], "brushlabels": ["nerve"]})]
            ),
            "a packed mask breaks off",
        ),
        (
            task(
                [region(type="brushlabels", value={"format": "rle", "rle": [999], "brushlabels": ["nerve"]})]
            ),
            "not a list of bytes",
        ),
        (task([])[:-9], "it is not JSON"),
        ("{}", "it is not a list of tasks"),
    ],
}


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [(name, text, message) for name, cases in BAD.items() for text, message in cases],
)
def test_what_is_bad_is_named_in_one_line_with_the_file(
    tmp_path: Path, name: str, text: str, message: str
) -> None:
    path = tmp_path / ("a.xml" if name == "cvat" else "a.json")
    path.write_text(text)
    reading = read(path, name)
    assert len(reading.problems) == 1, reading.problems
    assert message in reading.problems[0]
    assert str(path) in reading.problems[0]
    assert "\n" not in reading.problems[0]


@pytest.mark.parametrize(("name", "folder"), [("masks", "masks"), ("nnunet", "labelsTr")])
def test_bad_mask_files_are_named(tmp_path: Path, name: str, folder: str) -> None:
    write_selection(tmp_path, name, {0: make_masks(0)})
    files = [tmp_path / folder / f"{frame.name}.png" for frame in FRAMES]
    files[0].write_bytes(b"not a picture")
    Pillow.fromarray(np.zeros((HEIGHT, WIDTH + 1), np.uint8)).save(files[1])
    Pillow.fromarray(np.full((HEIGHT, WIDTH), 9, np.uint8)).save(files[2])
    files[3].rename(files[3].with_name("no-such-frame.png"))
    reading = read(tmp_path, name)
    assert len(reading.problems) == 4
    for file, words in zip(
        files, ("cannot read", f"is {WIDTH + 1}x{HEIGHT}", "holds the values [9]"), strict=False
    ):
        assert any(words in line and str(file) in line for line in reading.problems), words
    assert any("there is no frame 'no-such-frame'" in line for line in reading.problems)


def test_two_entries_of_one_frame_are_a_problem(tmp_path: Path) -> None:
    for name in ("a.json", "b.json"):
        (tmp_path / name).write_text(labelme([]))
    reading = read(tmp_path, "labelme")
    assert len(reading.labels) == 1
    assert "has labels already" in reading.problems[0]
