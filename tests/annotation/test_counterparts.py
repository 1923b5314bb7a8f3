"""The labelling programs' own libraries read what ``select`` wrote, and write what ``import`` reads.

Each is in a virtual environment of its own below the folder that STREAMSEG_COUNTERPARTS names (``make
counterparts`` makes them, 1.8 GB): what they require would not fit beside ours.
"""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import numpy as np
import pytest

from streamseg.annotation.formats import format_of
from streamseg.annotation.formats.reading import Reading
from streamseg.annotation.frames import by_name
from tests.annotation.selections import make_frames, make_masks, write_selection

pytestmark = pytest.mark.slow
VARIABLE = "STREAMSEG_COUNTERPARTS"

# Each script gets the folder of the selection and one for its own files. It saves the masks that the program
# sees as an .npz, a mask for each "IMAGE/STRUCTURE", and lets the program write them.
LABELME = """
import shutil, sys
from pathlib import Path
import numpy as np
from labelme import utils
from labelme._label_file import read_label_file, write_label_file
there, back = map(Path, sys.argv[1:])
shutil.copytree(there / "images", back / "images", ignore=shutil.ignore_patterns("*.json"))
found = {}
for file in sorted((there / "images").glob("*.json")):
    read = read_label_file(str(file))
    height, width = utils.img_data_to_arr(read.image_data).shape[:2]
    for shape in read.shapes:
        classes, _ = utils.shapes_to_label((height, width), [shape], {"_background_": 0, shape["label"]: 1})
        found[f"{file.stem}/{shape['label']}"] = classes == 1
        shape.update(shape.pop("other_data"), mask=utils.img_arr_to_b64(shape["mask"].astype(np.uint8)))
    write_label_file(
        str(back / "images" / file.name), shapes=read.shapes, image_path=read.image_path, image_height=height,
        image_width=width, other_data=read.other_data, flags={**read.flags, "looked at": True},
    )
np.savez(back / "found.npz", **found)
"""
DATUMARO = """
import shutil, sys
from pathlib import Path
import datumaro as dm
import numpy as np
there, back, name = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3]
source = there
if name == "coco":
    source = back / "coco"
    shutil.copytree(there / "images", source / "images" / "default")
    (source / "annotations").mkdir()
    shutil.copy(there / "annotations.json", source / "annotations" / "instances_default.json")
data = dm.Dataset.import_from(str(source), name)
labels = data.categories()[dm.AnnotationType.label]
found = {
    f"{item.id}/{labels[one.label].name}": np.asarray(one.image) > 0
    for item in data for one in item.annotations if isinstance(one, dm.Mask)
}
np.savez(back / "found.npz", **found)
data.export(str(back / "export"), {"coco": "coco_instances", "cvat": "cvat"}[name])
written = next((back / "export").rglob("*.json" if name == "coco" else "*.xml"))
shutil.copy(written, back / f"annotations{written.suffix}")
"""
PYCOCOTOOLS = """
import sys
from pathlib import Path
import numpy as np
from pycocotools.coco import COCO
there, back = map(Path, sys.argv[1:])
coco = COCO(str(there / "annotations.json"))
stem = {number: Path(image["file_name"]).stem for number, image in coco.imgs.items()}
np.savez(back / "found.npz", **{
    f"{stem[one['image_id']]}/{coco.cats[one['category_id']]['name']}": coco.annToMask(one) > 0
    for one in coco.anns.values()
})
"""
LABEL_STUDIO = """
import json, sys
from pathlib import Path
import numpy as np
from label_studio_sdk.converter import brush
from label_studio_sdk.label_interface import LabelInterface
there, back = map(Path, sys.argv[1:])
interface = LabelInterface((there / "label-config.xml").read_text())
tasks, found = json.loads((there / "tasks.json").read_text()), {}
for task in tasks:
    (prediction,) = task["predictions"]
    assert interface.validate_prediction(prediction), prediction
    for region in prediction["result"]:
        height, width, value = region["original_height"], region["original_width"], region["value"]
        mask = brush.decode_rle(value["rle"]).reshape(height, width, 4)[..., 3] > 0
        found[f"{task['data']['frame']}/{value['brushlabels'][0]}"] = mask
        value["rle"] = brush.mask2rle(mask.astype(np.uint8) * 255)
    task["annotations"] = [{"result": prediction["result"], "was_cancelled": False}]
    assert interface.validate_annotation(task["annotations"][0])
np.savez(back / "found.npz", **found)
(back / "tasks.json").write_text(json.dumps(tasks))
"""


def interpreter(program: str) -> Path:
    """The Python of a program's environment; skips without it."""
    found = Path(os.environ.get(VARIABLE, "")) / program / "bin" / "python"
    if VARIABLE not in os.environ or not found.exists():
        pytest.skip(f"{program} is not installed: make counterparts")
    return found


@pytest.mark.parametrize(
    ("program", "script", "name", "writes"),
    [
        ("labelme", LABELME, "labelme", True),
        ("datumaro", DATUMARO, "cvat", True),
        ("datumaro", DATUMARO, "coco", True),
        ("datumaro", PYCOCOTOOLS, "coco", False),
        ("label-studio-sdk", LABEL_STUDIO, "labelstudio", True),
    ],
    ids=["labelme", "datumaro-cvat", "datumaro-coco", "pycocotools", "label-studio-sdk"],
)
def test_masks_are_the_same_in_the_program_and_back(
    tmp_path: Path, program: str, script: str, name: str, writes: bool
) -> None:
    python, there, back = interpreter(program), tmp_path / "there", tmp_path / "back"
    there.mkdir()
    back.mkdir()
    frames = make_frames(format_name=name)
    write_selection(there, name, {number: make_masks(number) for number in range(len(frames))})
    arguments = [there, back, *([name] if script is DATUMARO else [])]
    said = subprocess.run(
        [python, "-c", script, *arguments], capture_output=True, text=True, check=False, cwd=tmp_path
    )
    assert said.returncode == 0, said.stderr
    found = np.load(back / "found.npz")
    expected = {
        f"{frame.name}/{structure}": mask
        for number, frame in enumerate(frames)
        for structure, mask in make_masks(number).items()
        if mask.any()
    }
    assert set(found) == set(expected)
    for key, mask in expected.items():
        np.testing.assert_array_equal(found[key], mask, key)
    if writes:
        reading = Reading(by_name(frames))
        format_of(name).read(back, reading)
        assert reading.problems == []
        read = {
            f"{labels.name}/{structure}": mask
            for labels in reading.labels
            for structure, mask in labels.masks.items()
            if mask.any()
        }
        assert set(read) == set(expected)
        for key, mask in expected.items():
            np.testing.assert_array_equal(read[key], mask, key)
