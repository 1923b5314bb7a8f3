"""What the nets' benchmark is asked for, and what it does with the time that it has."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from streamseg.benchmark.nets.bench import NetsOptions, measure_nets, own_size
from streamseg.benchmark.nets.variants import InputShape, VariantBuilder, VariantSpec
from streamseg.core.errors import UsageError
from streamseg.engines.checkpoint import write_checkpoint
from tests.nets.random_nets import random_checkpoint


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"nets": ("vnet",)}, "no net is called 'vnet'; choose one of unet"),
        ({"backends": ("caffe",)}, "no back end is called 'caffe'; choose one of eager"),
        ({"precisions": ("int4",)}, "no precision is called 'int4'; choose one of fp32"),
        ({"nets": ("segnet",), "sizes": ((48, 64),)}, "multiples of 32, received 48x64; use 64x64"),
        ({"last": 0.2}, "give them by --data"),
    ],
)
def test_unknown_options_are_refused_before_anything_runs(options: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        measure_nets(NetsOptions(threads=1, **options), print)


def test_shapes_are_every_size_and_batch_by_default_at_the_nets_own_size() -> None:
    given = NetsOptions(threads=1, nets=("unet",), sizes=((32, 48), (64, 64)), batches=(1, 8))
    assert [str(shape) for shape in given.shapes()] == [
        "unet 32x48 b1", "unet 32x48 b8", "unet 64x64 b1", "unet 64x64 b8",
    ]  # fmt: skip
    own = "x".join(map(str, own_size("lite_unet")))  # 256x256 if its weights ship
    assert [str(shape) for shape in NetsOptions(threads=1).shapes()] == [
        "improved_unet 192x224 b1", f"lite_unet {own} b1", "unet 192x224 b1", "segnet 192x224 b1",
    ]  # fmt: skip


def test_trained_weights_of_a_net_take_the_place_of_random_ones(tmp_path: Path) -> None:
    """And are measured at their own input size."""
    made = random_checkpoint("unet", (48, 64))
    path = tmp_path / "run" / "weights.safetensors"
    path.parent.mkdir()
    write_checkpoint(path, made.weights, net="unet", folded=True, trained=True, spec=made.spec)
    options = NetsOptions(threads=1, nets=("unet", "segnet"), weights={"unet": path.parent})
    assert [str(shape) for shape in options.shapes()] == ["unet 48x64 b1", "segnet 192x224 b1"]
    builder = VariantBuilder(tmp_path, 1, starts=False, weights=options.weights)
    (variant,), absent = builder.make(InputShape("unet", 48, 64), [VariantSpec("eager", "fp32")])
    assert (variant.trained, absent) == (True, {})
    variant.engine.close()
