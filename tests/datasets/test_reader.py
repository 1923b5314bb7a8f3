from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from streamseg.core.errors import DataError, UsageError
from streamseg.datasets import open_dataset
from streamseg.datasets.reader import survey

SHARED = Path(__file__).parents[2] / "../shared/data/usgra-seg"


def write(path: Path, pixels: np.ndarray, mode: str | None = None) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    picture = Image.fromarray(pixels)
    if mode == "P":
        picture = picture.convert("L")
        picture.putpalette([0, 0, 0, 0, 255, 0, 0, 0, 255])
    picture.save(path)


def grey(value: int = 90) -> np.ndarray:
    return np.full((20, 30), value, np.uint8)


def mask(*values: int) -> np.ndarray:
    pixels = np.zeros((20, 30), np.uint8)
    for row, value in enumerate(values):
        pixels[row] = value
    return pixels


def test_palette_masks_are_read_by_index(tmp_path):
    write(tmp_path / "images/a.png", grey())
    write(tmp_path / "masks/a.png", mask(0, 1, 2), "P")
    (sample,) = open_dataset(tmp_path)
    with Image.open(tmp_path / "masks/a.png") as picture:
        assert picture.mode == "P"
    assert sample.nerve[1].all()
    assert sample.nerve.sum() == 30
    assert sample.vessel is not None
    assert sample.vessel[2].all()
    assert sample.vessel.sum() == 30


def test_grey_masks_of_0_and_255(tmp_path):
    write(tmp_path / "images/a.jpg", grey())
    write(tmp_path / "masks/a.png", mask(0, 255))
    (sample,) = open_dataset(tmp_path)
    assert sample.nerve.sum() == 30
    assert sample.vessel is None


def test_grey_masks_saved_as_rgb(tmp_path):
    write(tmp_path / "images/a.png", grey())
    write(tmp_path / "masks/a.png", np.dstack([mask(0, 255)] * 3))
    assert open_dataset(tmp_path)[0].nerve.sum() == 30


def test_colour_images_become_grey(tmp_path):
    write(tmp_path / "images/a.png", np.dstack([grey(0), grey(255), grey(0)]))
    write(tmp_path / "masks/a.png", mask(0))
    assert open_dataset(tmp_path)[0].image[0, 0] == 150  # BT.601: 0.587 * 255


def test_the_kaggle_layout_in_natural_order(tmp_path):
    for stem in ("1_2", "1_10", "2_1"):
        write(tmp_path / f"train/{stem}.tif", grey())
        write(tmp_path / f"train/{stem}_mask.tif", mask(255))
    data = open_dataset(tmp_path)
    assert [sample.name for sample in data] == ["1_2", "1_10", "2_1"]
    assert [entry.subject for entry in data.entries] == ["1", "1", "2"]


@pytest.mark.parametrize(
    ("pixels", "message"),
    [
        (mask(0, 7), r"holds the values \[0, 7\]"),
        (np.zeros((20, 31), np.uint8), "31x20, its image 30x20"),
        (np.dstack([mask(255), mask(0), mask(0)]), "colour image"),
        (np.zeros((20, 30), np.uint16), "not an 8-bit image"),
    ],
)
def test_a_wrong_mask_is_named(tmp_path, pixels, message):
    write(tmp_path / "images/a.png", grey())
    write(tmp_path / "masks/a.png", pixels)
    with pytest.raises(DataError, match=message) as caught:
        open_dataset(tmp_path)[0]
    assert "a.png" in str(caught.value)


@pytest.mark.parametrize(
    ("lost", "message"), [("images", "mask .*b.png has no image"), ("masks", "image .*b.png has no mask")]
)
def test_a_missing_partner_is_named(tmp_path, lost, message):
    for folder in ("images", "masks"):
        for name in "ab":
            write(tmp_path / folder / f"{name}.png", mask(0))
    (tmp_path / lost / "b.png").unlink()
    with pytest.raises(DataError, match=message):
        open_dataset(tmp_path)


def test_the_first_of_many_problems_says_where_to_see_the_others(tmp_path):
    for name in "abc":
        write(tmp_path / f"images/{name}.png", grey())
    write(tmp_path / "masks/c.png", mask(0))
    write(tmp_path / "masks/d.png", mask(0))
    with pytest.raises(DataError, match=r"d\.png has no image.*'streamseg check' lists 2 more"):
        open_dataset(tmp_path)
    data, problems = survey(tmp_path)
    assert [entry.name for entry in data.entries] == ["c"]
    assert [name in line for name, line in zip("dab", problems, strict=True)] == [True] * 3


def test_kaggles_train_folder_itself(tmp_path):
    write(tmp_path / "train/7_1.TIF", grey())
    write(tmp_path / "train/7_1_mask.Tif", mask(255))
    whole, itself = (open_dataset(path) for path in (tmp_path, tmp_path / "train"))
    assert whole.entries == itself.entries
    assert itself.entries[0].subject == "7"
    assert itself[0].nerve.sum() == 30


def test_colour_tiffs_become_grey(tmp_path):
    write(tmp_path / "train/7_1.tif", np.dstack([grey(0), grey(255), grey(0)]))
    write(tmp_path / "train/7_1_mask.tif", np.dstack([mask(0, 255)] * 3))
    (sample,) = open_dataset(tmp_path)
    assert (sample.image[0, 0], sample.nerve.sum()) == (150, 30)


@pytest.mark.parametrize("layout", ["images", "train"])
def test_stray_files_are_passed_over(tmp_path, layout):
    if layout == "images":
        write(tmp_path / "images/a.png", grey())
        write(tmp_path / "masks/a.png", mask(0))
    else:
        write(tmp_path / "train/1_1.tif", grey())
        write(tmp_path / "train/1_1_mask.tif", mask(0))
    for stray in (".DS_Store", "Thumbs.db", "._a.png", "._1_1.tif", "notes.txt", "desktop.ini"):
        (tmp_path / layout / stray).write_bytes(b"stray")
    (tmp_path / layout / "folder").mkdir()
    assert len(open_dataset(tmp_path)) == 1


def test_odd_names_are_no_obstacle(tmp_path):
    names = ["10", "2", "²", "a", "é", "٣", "2b"]
    for name in names:
        write(tmp_path / f"images/{name}.png", grey())
        write(tmp_path / f"masks/{name}.png", mask(0))
    found = [sample.name for sample in open_dataset(tmp_path)]
    assert sorted(found) == sorted(names)
    assert found.index("2") < found.index("10")


def test_images_of_more_than_8_bits_are_refused(tmp_path):
    write(tmp_path / "images/a.png", np.full((20, 30), 40_000, np.uint16))
    write(tmp_path / "masks/a.png", mask(0))
    with pytest.raises(DataError, match=r"a\.png has more than 8 bits"):
        open_dataset(tmp_path)[0]


@pytest.mark.parametrize("which", ["images", "masks"])
@pytest.mark.parametrize(
    ("suffix", "options"),
    [
        (".png", {}),
        (".tif", {}),
        (".tif", {"compression": "packbits"}),
        (".tif", {"compression": "tiff_lzw"}),
        (".tif", {"compression": "tiff_deflate"}),
        (".jpg", {}),
        (".bmp", {}),
    ],
)
def test_a_file_cut_anywhere_is_named(tmp_path, which, suffix, options):
    noise = np.random.default_rng(0).integers(0, 2, (20, 30), dtype=np.uint8) * np.uint8(255)
    for folder in ("images", "masks"):
        (tmp_path / folder).mkdir()
        Image.fromarray(noise).save(tmp_path / folder / "a.png")
    (tmp_path / which / "a.png").unlink()
    path = tmp_path / which / f"a{suffix}"
    Image.fromarray(noise).save(path, **options)
    content = path.read_bytes()
    for part in (0.0, 0.01, 0.1, 0.3, 0.5, 0.7):
        path.write_bytes(content[: int(len(content) * part)])
        with pytest.raises(DataError, match=r"cannot read the image .*/a\.") as caught:
            open_dataset(tmp_path)[0]
        assert "\n" not in str(caught.value)
    path.write_bytes(b"")
    with pytest.raises(DataError, match="it is empty"):
        open_dataset(tmp_path)[0]
    path.write_bytes(b"no image at all, whatever its name says")
    with pytest.raises(DataError, match="it is not an image"):
        open_dataset(tmp_path)[0]


def test_a_decompression_bomb_is_refused(tmp_path):
    path = tmp_path / "images/a.png"
    path.parent.mkdir()
    Image.new("1", (20_000, 5_000)).save(path)
    write(tmp_path / "masks/a.png", mask(0))
    with pytest.raises(DataError, match=r"cannot read the image .*a\.png"):
        open_dataset(tmp_path)[0]


def test_a_part_holds_the_rows_asked_for(tmp_path):
    for name in "abc":
        write(tmp_path / f"images/{name}.png", grey())
        write(tmp_path / f"masks/{name}.png", mask(0))
    part = open_dataset(tmp_path).part([2, 0])
    assert [sample.name for sample in part] == ["c", "a"]


def test_an_unreadable_image_is_named(tmp_path):
    write(tmp_path / "images/a.png", grey())
    write(tmp_path / "masks/a.png", mask(0))
    (tmp_path / "images/a.png").write_bytes((tmp_path / "images/a.png").read_bytes()[:40])
    with pytest.raises(DataError, match=r"cannot read the image .*a\.png"):
        open_dataset(tmp_path)[0]


def test_folders_that_are_no_data_set(tmp_path):
    with pytest.raises(UsageError, match="no data set folder"):
        open_dataset(tmp_path / "nothing")
    with pytest.raises(DataError, match="unknown layout"):
        open_dataset(tmp_path)
    (tmp_path / "images").mkdir()
    (tmp_path / "masks").mkdir()
    with pytest.raises(DataError, match="holds no images"):
        open_dataset(tmp_path)


def test_two_images_of_one_name_are_refused(tmp_path):
    write(tmp_path / "images/a.png", grey())
    write(tmp_path / "images/a.tif", grey())
    write(tmp_path / "masks/a.png", mask(0))
    with pytest.raises(DataError, match="two files with the same name"):
        open_dataset(tmp_path)


@pytest.mark.skipif(not SHARED.is_dir(), reason="../shared/data/usgra-seg is not here")
def test_the_real_set_reads_whole():
    data = open_dataset(SHARED)
    assert len(data) == 204
    for sample in data[::20]:
        assert sample.nerve.any()
        assert 0.001 < sample.nerve.mean() < 0.3
        assert sample.vessel is not None
        assert not (sample.nerve & sample.vessel).any()
