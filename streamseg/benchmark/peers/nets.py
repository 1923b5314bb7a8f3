"""Other nets at the same input, in the same two runtimes as ours: torch eager and OpenVINO, both FP32.

Speed only: their weights are random. Needs torch.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from itertools import cycle
from typing import TYPE_CHECKING, Any

import numpy as np

from streamseg.backends.openvino.signal_stack import kept_signal_stack
from streamseg.benchmark.flops import work_of_module
from streamseg.benchmark.peers.peer import Maker, Peer, need, version
from streamseg.benchmark.peers.runtimes import Infer, Probability, agreement
from streamseg.core.types import Tensor
from streamseg.engines.checkpoint import Checkpoint

if TYPE_CHECKING:
    from torch import nn

OURS = "improved U-Net"
TORCH, OPENVINO = "torch eager", "OpenVINO"
SEED = 0
CHECKED = 2
"""Frames for which OpenVINO's answers are compared with torch's."""


def basic_unet(outputs: int) -> nn.Module:
    """MONAI's BasicUNet with its default widths."""
    need("the peer BasicUNet", "monai")
    from monai.networks.nets.basic_unet import BasicUNet

    net: nn.Module = BasicUNet(spatial_dims=2, in_channels=1, out_channels=outputs)
    return net


def dyn_unet(outputs: int) -> nn.Module:
    """MONAI's DynUNet, nnU-Net's architecture, with our nets' depth and widths."""
    need("the peer DynUNet", "monai")
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


PEERS: Mapping[str, Callable[[int], nn.Module]] = {"MONAI BasicUNet": basic_unet, "MONAI DynUNet": dyn_unet}
"""Nets of others by name, made with so many output channels."""


@dataclass(repr=False)
class Candidate:
    """A net at one input size, in both runtimes."""

    name: str
    make: Callable[[], nn.Module]
    """Gives the net, ending in the probability."""
    tensors: Sequence[Tensor]
    threads: int
    threshold: float
    package: str
    """Whose net it is; ours is called streamseg."""

    @cached_property
    def net(self) -> nn.Module:
        return self.make().eval().requires_grad_(False)

    @cached_property
    def facts(self) -> dict[str, Any]:
        """Its work, and how many of its normalisations remain when it runs."""
        import torch

        work = work_of_module(self.net, torch.from_numpy(self.tensors[0]))
        kinds = (torch.nn.InstanceNorm2d, torch.nn.BatchNorm2d, torch.nn.GroupNorm)
        norms = sum(isinstance(module, kinds) for module in self.net.modules())
        return {"gflop": work.flop / 1e9, "parameters": work.parameters, "normalisations": norms}

    @cached_property
    def reference(self) -> Sequence[Probability]:
        """What torch gives for the first frames."""
        return [*map(self._torch(), self.tensors[:CHECKED])]

    def in_torch(self) -> Peer:
        """By torch, kernel by kernel."""
        return self._peer(TORCH, self._torch())

    def in_openvino(self) -> Peer:
        """Converted by OpenVINO from torch, and compared with what torch gives."""
        import openvino as ov

        torch = need("the comparison of nets", "torch")
        with kept_signal_stack(), torch.no_grad():
            example = torch.from_numpy(self.tensors[0])
            model = ov.convert_model(self.net, example_input=example, input=list(example.shape))
            options = {"INFERENCE_NUM_THREADS": self.threads, "INFERENCE_PRECISION_HINT": "f32"}
            compiled = ov.Core().compile_model(model, "CPU", options)

        def infer(tensor: Tensor) -> Probability:
            return np.array(compiled(tensor)[0][0, 0])

        return self._peer(OPENVINO, infer)

    def _torch(self) -> Infer:
        torch = need("the comparison of nets", "torch")
        net, threads = self.net, self.threads

        def infer(tensor: Tensor) -> Probability:
            # OpenMP keeps the number per thread, and this may be another one than before.
            if torch.get_num_threads() != threads:
                torch.set_num_threads(threads)
            with torch.inference_mode():
                found: Probability = net(torch.from_numpy(tensor))[0, 0].numpy()
            return found

        return infer

    def _peer(self, runtime: str, infer: Infer) -> Peer:
        found = agreement(
            infer,
            self.tensors[:CHECKED],
            self.reference,
            precision="fp32",
            threshold=self.threshold,
            masks=False,
        )
        turns = cycle(self.tensors)

        def call() -> int:
            infer(next(turns))
            return 1

        return Peer(
            f"{self.name}, {runtime}",
            f"{OURS}, {runtime}",
            "fp32",
            call,
            version=version(self.package),
            remark="random weights: speed only" if self.package != "streamseg" else "folded",
            facts={**self.facts, "difference": found["difference"]},
        )


def nets(checkpoint: Checkpoint, tensors: Sequence[Tensor], threads: int) -> dict[str, Maker]:
    """What makes each net ready in each runtime, by its name; ours come first.

    ``checkpoint`` is ours, folded, at the tensors' size.
    """

    def ours() -> nn.Module:
        need("the comparison of nets", "torch")
        from streamseg.nets.inference import inference_net

        return inference_net(checkpoint)

    made: dict[str, Callable[[], nn.Module]] = {OURS: ours}
    made |= {name: partial(_random, make) for name, make in PEERS.items()}
    found: dict[str, Maker] = {}
    for name, make in made.items():
        package = "streamseg" if name == OURS else "monai"
        one = Candidate(name, make, tensors, threads, checkpoint.spec.threshold, package)
        found |= {f"{name}, {TORCH}": one.in_torch, f"{name}, {OPENVINO}": one.in_openvino}
    return found


def _random(make: Callable[[int], nn.Module]) -> nn.Module:
    """A net with seeded random weights, ending in the probability as ours does."""
    torch = need("the comparison of nets", "torch")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(SEED)
        net: nn.Module = torch.nn.Sequential(make(1), torch.nn.Sigmoid())
    return net
