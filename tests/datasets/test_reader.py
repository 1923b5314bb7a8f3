import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from streamseg.capture import open_source
from streamseg.capture.images import ImageSource
from streamseg.core.errors import DataError, UsageError
from streamseg.datasets import folds, hold_back, last_block, open_dataset
from streamseg.datasets.reader import survey
from tests.datasets.files import write_labelled

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


def palette(indices: np.ndarray, colours: list[int], path: Path, **options: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    picture = Image.fromarray(indices).convert("L")
    picture.putpalette(colours)
    picture.save(path, **options)


WHITE_FIRST = [255, 255, 255, 0, 0, 0]


def test_a_palette_of_black_and_white_counts_by_colour(tmp_path):
    """Nerve is white, whichever of the two comes first; before, white first was inverted."""
    for name, colours, rows in (
        ("black-first", [0, 0, 0, 255, 255, 255], 1),
        ("white-first", WHITE_FIRST, 19),
        ("white-first-empty", WHITE_FIRST, 0),
    ):
        indices = mask(0, 1) if name != "white-first-empty" else np.ones((20, 30), np.uint8)
        write(tmp_path / f"images/{name}.png", grey())
        palette(indices, colours, tmp_path / f"masks/{name}.png")
        (sample,) = (one for one in open_dataset(tmp_path) if one.name == name)
        assert sample.nerve.sum() == 30 * rows
        assert sample.vessel is None


def test_a_reversed_palette_of_greys_counts_by_colour(tmp_path):
    write(tmp_path / "images/a.png", grey())
    palette(mask(255), [255 - n // 3 for n in range(768)], tmp_path / "masks/a.png")
    assert open_dataset(tmp_path)[0].nerve.sum() == 19 * 30


def test_a_palette_of_classes_counts_by_index_whatever_its_background(tmp_path):
    write(tmp_path / "images/a.png", grey())
    palette(mask(0, 1, 2), [255, 255, 255, 255, 0, 0, 0, 0, 255], tmp_path / "masks/a.png")
    sample = open_dataset(tmp_path)[0]
    assert (sample.nerve.sum(), sample.vessel.sum()) == (30, 30)


def layers(colour: tuple[int, int, int], transparent: tuple[int, int, int], label: np.ndarray) -> np.ndarray:
    """RGBA: the label's pixels opaque in a colour, the others transparent in another one."""
    pixels = np.zeros((20, 30, 4), np.uint8)
    pixels[...] = (*transparent, 0)
    pixels[label > 0] = (*colour, 255)
    return pixels


@pytest.mark.parametrize(
    ("colour", "transparent"),
    [
        ((255, 255, 255), (255, 255, 255)),
        ((255, 255, 255), (0, 0, 0)),
        ((255, 0, 0), (0, 0, 0)),
        ((255, 0, 0), (255, 255, 255)),
    ],
)
def test_a_label_in_the_alpha_is_read(tmp_path, colour, transparent):
    """All of it was nerve: its red channel is white throughout."""
    for name, label in (("a", mask(0, 255)), ("empty", mask(0))):
        write(tmp_path / f"images/{name}.png", grey())
        write(tmp_path / f"masks/{name}.png", layers(colour, transparent, label))
    a, empty = open_dataset(tmp_path)
    assert a.nerve.sum() == a.nerve[1].sum() == 30
    assert not empty.nerve.any()


def test_other_masks_with_transparency(tmp_path):
    write(tmp_path / "images/a.png", grey())
    opaque = np.dstack([mask(0, 255)] * 3 + [np.full((20, 30), 255, np.uint8)])
    write(tmp_path / "masks/a.png", opaque)
    assert open_dataset(tmp_path)[0].nerve.sum() == 30
    Image.fromarray(opaque).convert("LA").save(tmp_path / "masks/a.png")
    assert open_dataset(tmp_path)[0].nerve.sum() == 30
    hidden = np.dstack([mask(0, 255)] * 3 + [mask(0)])
    hole = layers((0, 0, 0), (255, 255, 255), np.ones((20, 30)) - (mask(255) > 0))
    for guess in (hidden, hole):
        write(tmp_path / "masks/a.png", guess)
        with pytest.raises(DataError, match=r"a\.png has transparent pixels"):
            open_dataset(tmp_path)[0]
    palette(mask(0, 1), [255] * 6, tmp_path / "masks/a.png", transparency=b"\x00\xff")
    assert open_dataset(tmp_path)[0].nerve.sum() == 30


def test_transparent_pixels_of_images_are_black(tmp_path):
    write(tmp_path / "images/a.png", layers((90, 90, 90), (250, 250, 250), mask(255)))
    write(tmp_path / "masks/a.png", mask(0))
    image = open_dataset(tmp_path)[0].image
    assert (image[0] == 90).all()
    assert (image[1:] == 0).all()


@pytest.mark.parametrize("which", ["images", "masks"])
@pytest.mark.parametrize("suffix", ["tif", "png"])
def test_several_pages_are_not_one_image(tmp_path, which, suffix):
    write(tmp_path / "images/a.png", grey())
    write(tmp_path / "masks/a.png", mask(0))
    (tmp_path / which / "a.png").unlink()
    pages = [Image.fromarray(mask(value)) for value in (0, 255, 255)]
    pages[0].save(tmp_path / which / f"a.{suffix}", save_all=True, append_images=pages[1:])
    with pytest.raises(DataError, match=rf"a\.{suffix} has 3 pages"):
        open_dataset(tmp_path)[0]


def test_a_preview_in_a_tiff_is_no_page(tmp_path):
    write(tmp_path / "masks/a.png", mask(0, 255))
    (tmp_path / "images").mkdir()
    whole, preview = Image.fromarray(grey()), Image.fromarray(grey()[::4, ::4])
    preview.encoderinfo = {"tiffinfo": {254: 1}}
    whole.save(tmp_path / "images/a.tif", save_all=True, append_images=[preview])
    assert open_dataset(tmp_path)[0].image.shape == (20, 30)


@pytest.mark.parametrize("suffix", ["jpg", "png", "tif"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation_is_applied_as_in_sources(tmp_path, suffix, orientation):
    picture = np.add.outer(np.arange(20) * 4, np.arange(30) * 3).astype(np.uint8)
    exif = Image.Exif()
    exif[0x0112] = orientation
    for folder, pixels in (("images", picture), ("masks", mask(255, 255))):
        (tmp_path / folder).mkdir()
        ending = suffix if folder == "images" else "png"
        Image.fromarray(pixels).save(tmp_path / folder / f"a.{ending}", exif=exif)
    (sample,) = open_dataset(tmp_path)
    (frame,) = ImageSource([tmp_path / f"images/a.{suffix}"], "a")
    np.testing.assert_array_equal(sample.image, frame.image)
    upright = {2: picture[:, ::-1], 3: picture[::-1, ::-1], 4: picture[::-1], 5: picture.T}
    upright |= {6: np.rot90(picture, -1), 7: picture[::-1, ::-1].T, 8: np.rot90(picture)}
    if suffix != "jpg":
        np.testing.assert_array_equal(sample.image, upright.get(orientation, picture))
    assert sample.nerve.shape == sample.image.shape
    assert sample.nerve.sum() == 60


def test_a_mask_that_lacks_its_images_orientation_is_named(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    (tmp_path / "images").mkdir()
    Image.fromarray(grey()).save(tmp_path / "images/a.jpg", exif=exif)
    write(tmp_path / "masks/a.png", mask(0))
    with pytest.raises(DataError, match="one may have an orientation tag"):
        open_dataset(tmp_path)[0]


def name_each(folder: Path, *names: str) -> None:
    for name in names:
        write(folder / f"{name}.tif", grey())
        write(folder / f"{name}_mask.tif", mask(255))


def test_subjects_come_from_a_table(tmp_path):
    name_each(tmp_path / "train", "nerve_001", "nerve_002", "nerve_003")
    with pytest.raises(DataError, match=r"of one subject, 'nerve' .*subjects\.csv"):
        hold_back(open_dataset(tmp_path), 0.34)
    with pytest.raises(DataError, match=r"of one subject, 'nerve' .*subjects\.csv"):
        folds(open_dataset(tmp_path), 2)
    rows = "name,subject\r\nnerve_001,ann\r\nnerve_002.tif,ann\r\nnerve_003,bob\r\n"
    (tmp_path / "subjects.csv").write_text("\ufeff" + rows, encoding="utf-8")
    data = open_dataset(tmp_path)
    assert [entry.subject for entry in data.entries] == ["ann", "ann", "bob"]
    assert data[2].subject == "bob"
    assert last_block(data, 0.34, near_duplicates=()).validation == (2,)
    (tmp_path / "subjects.csv").write_text("name,subject\nnerve_001,ann\n")
    with pytest.raises(DataError, match=r"nerve_002.tif has no subject in .*subjects\.csv"):
        open_dataset(tmp_path)
    for text in ("", "image;person\n", "\0", 'name,subject\n"'):
        (tmp_path / "subjects.csv").write_text(text)
        with pytest.raises(DataError, match=r"cannot read .*subjects\.csv"):
            open_dataset(tmp_path)
    (tmp_path / "subjects.csv").unlink()
    os.mkfifo(tmp_path / "subjects.csv")
    with pytest.raises(DataError, match=r"subjects\.csv: not a regular file"):
        open_dataset(tmp_path)


def test_subjects_of_the_plain_layout(tmp_path):
    for name in "ab":
        write(tmp_path / f"images/{name}.png", grey())
        write(tmp_path / f"masks/{name}.png", mask(0))
    assert [entry.subject for entry in open_dataset(tmp_path).entries] == [None, None]
    (tmp_path / "subjects.csv").write_text("subject,name,age\nx,b.png,31\ny,a.png,52\n")
    assert [entry.subject for entry in open_dataset(tmp_path).entries] == ["y", "x"]


@pytest.mark.parametrize(
    ("image", "label"),
    [
        ("Images/a.png", "Masks/a.png"),
        ("IMAGES/a.png", "labels/a.png"),
        ("image/a.png", "mask/a.png"),
        ("images/a.png", "masks/a_mask.png"),
        ("imagesTr/a_0000.png", "labelsTr/a.png"),
    ],
)
def test_layouts_that_are_read(tmp_path, image, label):
    write(tmp_path / image, grey())
    write(tmp_path / label, mask(1))
    (sample,) = open_dataset(tmp_path)
    assert (sample.name, sample.nerve.sum(), sample.subject) == ("a", 30, None)


def test_layouts_that_are_named(tmp_path):
    name_each(tmp_path / "busi/benign", "benign (1)", "benign (2)")
    name_each(tmp_path / "busi/normal", "normal (1)")
    with pytest.raises(DataError, match=r"looks like BUSI's, .* such as benign/; give one of these"):
        open_dataset(tmp_path / "busi")
    assert len(open_dataset(tmp_path / "busi/benign")) == 2
    write(tmp_path / "busi/benign/benign (1)_mask_1.tif", mask(255))
    with pytest.raises(DataError, match="two masks of one image"):
        open_dataset(tmp_path / "busi/benign")
    write(tmp_path / "split/train/images/a.png", grey())
    write(tmp_path / "split/train/masks/a.png", mask(0))
    with pytest.raises(DataError, match=r"give .*split/train"):
        open_dataset(tmp_path / "split")
    write(tmp_path / "half/Images/a.png", grey())
    with pytest.raises(DataError, match="has Images/ and lacks the other half"):
        open_dataset(tmp_path / "half")
    write(tmp_path / "nnunet/imagesTr/a_0000.png", grey())
    write(tmp_path / "nnunet/imagesTr/a_0001.png", grey())
    write(tmp_path / "nnunet/labelsTr/a.png", mask(0))
    with pytest.raises(DataError, match=r"a_0001\.png is a second channel"):
        open_dataset(tmp_path / "nnunet")


def test_a_pipe_or_folder_is_named_and_not_waited_for(tmp_path):
    write(tmp_path / "images/a.png", grey())
    write(tmp_path / "masks/a.png", mask(0))
    os.mkfifo(tmp_path / "images/b.png")
    (tmp_path / "masks/c.png").mkdir()
    with pytest.raises(DataError, match=r"b\.png is not a file"):
        open_dataset(tmp_path)
    data, problems = survey(tmp_path)
    assert [entry.name for entry in data.entries] == ["a"]
    assert [name in line for name, line in zip("bc", problems, strict=True)] == [True, True]
    data.entries[0].image.unlink()
    os.mkfifo(data.entries[0].image)
    with pytest.raises(DataError, match=r"a\.png: it is not a file"):
        data[0]


@pytest.mark.parametrize("stated", ["in both", "in the image"])
@pytest.mark.parametrize("orientation", [1, 6])
def test_pixels_that_are_not_square_become_so_as_in_sources(tmp_path, stated, orientation):
    """A net that was trained on stretched images would meet others in sources."""
    write_labelled(tmp_path, 2)
    density, exif = (150, 200), Image.Exif()  # pixels of 4:3
    exif[0x0112] = orientation
    for folder in ("images", "masks"):
        path = tmp_path / folder / "1.png"
        options = {"dpi": density} if folder == "images" or stated == "in both" else {}
        with Image.open(path) as picture:
            picture.load()
            picture.save(path, exif=exif, **options)
    plain, sample = open_dataset(tmp_path)
    assert plain.image.shape == (40, 60)
    assert sample.image.shape == sample.nerve.shape == ((40, 80) if orientation == 1 else (80, 40))
    frame = next(iter(open_source(tmp_path / "images" / "1.png")))
    assert np.abs(frame.image.astype(int) - sample.image).max() <= 1
    assert sample.image[sample.nerve].min() > 100


@pytest.mark.skipif(not SHARED.is_dir(), reason="../shared/data/usgra-seg is not here")
def test_the_real_set_reads_whole():
    data = open_dataset(SHARED)
    assert len(data) == 204
    for sample in data[::20]:
        assert sample.nerve.any()
        assert 0.001 < sample.nerve.mean() < 0.3
        assert sample.vessel is not None
        assert not (sample.nerve & sample.vessel).any()
