import numpy as np
import pytest

from streamseg.phantom import scan
from streamseg.phantom.model import Canvas
from streamseg.phantom.organs import paint_bone, paint_vessel
from streamseg.phantom.shapes import Blob

MM = 0.09


@pytest.fixture
def rng():
    return np.random.default_rng(3)


@pytest.fixture
def machine(rng):
    return scan.ScannerSettings.random(rng)


def even(height=300, width=400, level=20.0):
    canvas = Canvas.empty(height, width, MM)
    canvas.echo_db[:] = level
    return canvas


def test_speckle_of_even_tissue_is_rayleigh(rng, machine):
    planes = [scan.speckle(rng, (400, 500), machine, MM) for _ in range(3)]
    envelope = np.stack([np.hypot(*pair) for pair in planes])
    assert envelope.mean() / envelope.std() == pytest.approx(1.91, abs=0.08)


def test_speckle_keeps_the_power_of_its_scatterers_at_every_depth(rng, machine):
    planes = [scan.speckle(rng, (400, 500), machine, MM) for _ in range(3)]
    power = np.stack([real**2 + imaginary**2 for real, imaginary in planes]).mean(axis=(0, 2))
    for band in np.array_split(power, 4):
        assert band.mean() == pytest.approx(2.0, rel=0.15)


def test_speckle_is_not_white_and_as_long_as_the_beam(rng, machine):
    real, _ = scan.speckle(rng, (400, 500), machine, MM)
    axial = (real[:-1] * real[1:]).mean() / (real**2).mean()
    lateral = (real[:, :-1] * real[:, 1:]).mean() / (real**2).mean()
    # A Gaussian pulse of deviation s gives correlated noise of deviation s * sqrt(2).
    assert axial == pytest.approx(np.exp(-1 / (4 * (machine.axial_mm / MM) ** 2)), abs=0.05)
    assert lateral > axial


def test_beam_is_narrowest_at_the_focus(rng, machine):
    real, _ = scan.speckle(rng, (900, 900), machine, MM)
    correlation = (real[:, :-3] * real[:, 3:]).mean(axis=1) / (real**2).mean(axis=1)
    focus = int(machine.focus * 900)
    assert correlation[focus - 60 : focus + 60].mean() < correlation[-120:].mean()


def test_compounding_lowers_the_speckle_contrast(rng, machine):
    def ratio(looks):
        settings = {name: getattr(machine, name) for name in machine.__slots__} | {
            "looks": looks,
            "tilt_db_per_mm": 0.0,
        }
        envelope = scan.envelope(rng, even(), scan.ScannerSettings(**settings))
        return envelope.mean() / envelope.std()

    # The detector's filter averages a little even where there is one look.
    assert 1.91 < ratio(1) < 2.6
    assert ratio(4) == pytest.approx(2 * ratio(1), rel=0.1)


def test_scatterers_are_normal_and_their_pieces_differ(rng):
    first, second = scan.scatterers(rng, (200, 300)), scan.scatterers(rng, (200, 300))
    assert abs(first.mean()) < 0.02
    assert first.std() == pytest.approx(1, abs=0.02)
    assert abs((first * second).mean()) < 0.02
    assert scan.scatterers(rng, (70, scan.POOL + 1)).shape == (70, scan.POOL + 1)


def test_tissue_below_a_vessel_is_enhanced_and_below_bone_shadowed(rng, machine):
    canvas = even()
    paint_vessel(rng, canvas, Blob(100, 100, 40, 40), artery=True)
    paint_bone(rng, canvas, 300, 100, 40)
    amplitude, _ = scan.amplitudes(canvas, machine)
    beside = amplitude[200:, 190:210].mean()
    assert amplitude[200:, 90:110].mean() > 1.2 * beside
    assert amplitude[200:, 290:310].mean() < 0.1 * beside


def test_compression_is_monotonic_and_spans_the_dynamic_range(machine):
    level = np.array([[0.0, machine.range_db / 2, machine.range_db]], np.float32)
    grey = scan.compress(10 ** (level / 20), machine)
    assert grey[0, 0] == 0
    assert grey[0, 2] == 255
    assert 0 < grey[0, 1] < 255
    assert scan.compress(np.zeros((1, 1), np.float32), machine)[0, 0] == 0
