"""Compares our nets with MONAI's, and measures the gain of each part of the recipe ``best``.

    python benchmarks/yardsticks.py ladder ../shared/data/usgra-seg --out /tmp/ladder
    python benchmarks/yardsticks.py nets ../shared/data/usgra-seg --out /tmp/nets

All runs have the same split (the last block held back), epochs, seed and input size, and no pretrained
weights; ``ladder`` adds the parts of the recipe ``best`` to the paper's one by one, ``nets`` trains each net
by the recipe ``best``. Runs resume; the result is rewritten after each. Dice is measured in the
images' own pixels at threshold 0.5, with a bootstrap interval over images, paired against the first run.
"""

from __future__ import annotations

import argparse
import json
import platform
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from streamseg.cli.train import parse_height_width
from streamseg.core.types import InputSpec
from streamseg.datasets import Dataset, open_dataset
from streamseg.datasets.phantoms import phantom_samples
from streamseg.datasets.split import hold_back
from streamseg.evaluation.dataset import confusions
from streamseg.evaluation.intervals import bootstrap_interval, paired_test
from streamseg.nets import NETS, build_net, count_parameters
from streamseg.phantom import seeds
from streamseg.segmentation.segmenter import Segmenter
from streamseg.training.cache import cache_samples
from streamseg.training.config import RECIPES, TrainConfig, recipe
from streamseg.training.data import TrainingData
from streamseg.training.devices import make_fabric
from streamseg.training.run_folder import TrainingCallbacks, TrainingOutcome
from streamseg.training.trainer import fit

LADDER = ("loss", "strength", "vessel_weight", "average", "phantom_batch", "restyle")
"""Parts of the recipe ``best`` in the order in which they are added."""


@dataclass
class NetBackend:
    """Runs a torch net as a back end."""

    net: nn.Module
    spec: InputSpec
    name: str = "yardstick"
    fingerprint: str = ""

    @torch.inference_mode()
    def infer(self, tensor: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        logits = self.net(torch.from_numpy(tensor).contiguous(memory_format=torch.channels_last))
        return torch.sigmoid(logits[0, :1]).numpy()

    def close(self) -> None:
        pass


def basic_unet(outputs: int) -> nn.Module:
    """MONAI's BasicUNet with its default widths."""
    from monai.networks.nets.basic_unet import BasicUNet

    net: nn.Module = BasicUNet(spatial_dims=2, in_channels=1, out_channels=outputs)
    return net


def dyn_unet(outputs: int) -> nn.Module:
    """MONAI's DynUNet, nnU-Net's architecture, with our nets' depth and widths."""
    from monai.networks.nets.dynunet import DynUNet

    net: nn.Module = DynUNet(
        spatial_dims=2,
        in_channels=1,
        out_channels=outputs,
        kernel_size=[3] * 5,
        strides=[1, 2, 2, 2, 2],
        upsample_kernel_size=[2] * 4,
        filters=[32, 64, 128, 256, 512],
    )
    return net


PEERS: dict[str, Callable[[int], nn.Module]] = {"monai-basic-unet": basic_unet, "monai-dyn-unet": dyn_unet}


def ladder(base: dict[str, Any]) -> dict[str, TrainConfig]:
    """The paper's recipe, then with each part of ``best`` added; rate and schedule are those of ``best``."""
    best = {**RECIPES["best"], "phantom_batch": 2}
    changes = {**base, **{name: best[name] for name in ("learning_rate", "schedule", "weight_decay")}}
    steps = {"paper": recipe("paper", **base), "best's rate": recipe("paper", **changes)}
    for name in LADDER:
        changes[name] = best[name]
        steps[f"+ {name} {best[name]}"] = recipe("paper", **changes)
    return steps


def run(
    name: str, config: TrainConfig, make: Callable[[int], nn.Module] | None, data: Dataset, options: Any
) -> dict[str, Any]:
    """Train one net, or resume its run, and measure it on the held-back images."""
    fold = hold_back(data, 0.2)
    cache = cache_samples(data, config.spec)
    phantom = None
    if config.phantom_batch:
        phantom = cache_samples(
            phantom_samples(options.phantoms, seed=seeds.training(0).take(options.phantoms)), config.spec
        )
    torch.manual_seed(config.seed)
    net = None if make is None else make(config.outputs)
    callbacks = TrainingCallbacks(on_epoch=lambda line: print(name, line, flush=True))
    folder = options.out / "".join(c if c.isalnum() else "-" for c in name)
    fabric = make_fabric(options.device)
    training = TrainingData(cache, fold, phantom)
    done: TrainingOutcome = fit(config, training, folder, net=net, fabric=fabric, callbacks=callbacks)
    segmenter = Segmenter(NetBackend(done.net.cpu().eval(), config.spec), None)
    held_back = data.part(fold.validation)
    subjects = [entry.subject for entry in held_back.entries]
    dice = [count.dice for _, count in confusions(held_back, segmenter)]
    low, high = bootstrap_interval(dice, subjects=subjects)
    epochs = done.history.epochs
    return {
        "name": name,
        "parameters": count_parameters(build_net(config.net) if make is None else make(1)),
        "dice": round(float(np.mean(dice)), 4),
        "dice_median": round(float(np.median(dice)), 4),
        "interval": [round(low, 4), round(high, 4)],
        "subjects": subjects,
        "per_image": [round(value, 4) for value in dice],
        "dice_by_epoch": [round(line["dice"], 4) for line in epochs],
        "loss_by_epoch": [round(line["loss"], 4) for line in epochs],
        "seconds": round(sum(line["seconds"] for line in epochs), 1),
        "images_per_second": round(float(np.median([line["images_per_second"] for line in epochs])), 2),
    }


def compared(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Add each run's paired difference in Dice from the first run."""
    for row in rows[1:]:
        test = paired_test(row["per_image"], rows[0]["per_image"], subjects=row["subjects"])
        row["against_first"] = {
            "difference": round(test.difference, 4),
            "interval": [round(test.low, 4), round(test.high, 4)],
            "p_value": round(test.p_value, 4),
        }
    return rows


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", choices=["ladder", "nets"])
    parser.add_argument("data", type=Path)
    parser.add_argument("--out", type=Path, required=True, help="run folders, and result.json")
    parser.add_argument("--size", default="96x112")
    parser.add_argument("--epochs", type=int, default=24)
    parser.add_argument("--phantoms", type=int, default=300)
    parser.add_argument("--nets", nargs="+", default=["improved_unet", *PEERS])
    parser.add_argument("--device", default="auto")
    options = parser.parse_args()
    height, width = parse_height_width(options.size)
    base: dict[str, Any] = {"height": height, "width": width, "epochs": options.epochs, "batch": 8}
    data = open_dataset(options.data)
    plan: dict[str, tuple[TrainConfig, Callable[[int], nn.Module] | None]]
    if options.what == "ladder":
        plan = {name: (config, None) for name, config in ladder(base).items()}
    else:
        best = {name: recipe("best", **base, phantom_batch=2, net=name) for name in options.nets}
        plan = {name: (config, None if name in NETS else PEERS[name]) for name, config in best.items()}
    rows: list[dict[str, Any]] = []
    for name, (config, make) in plan.items():
        rows.append(run(name, config, make, data, options))
        result = {
            "what": options.what,
            "data": options.data.name,
            "size": options.size,
            "epochs": options.epochs,
            "recipe": dict(RECIPES["best"]),
            "machine": {"processor": platform.processor() or platform.machine(), "torch": torch.__version__},
            "threads": torch.get_num_threads(),
            "finished": datetime.now(UTC).isoformat(timespec="seconds"),
            "rows": compared(rows),
        }
        (options.out / "result.json").write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
        print(f"{name}: Dice {rows[-1]['dice']} {rows[-1]['interval']}", flush=True)


if __name__ == "__main__":
    started = time.monotonic()
    main()
    print(f"{time.monotonic() - started:.0f} s", flush=True)
