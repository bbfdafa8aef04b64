"""What compiling brings, beside what people use today, in one run: ``make peers``.

Six generators with random, well-scaled weights. Each is exported, compiled by ``gen-engine compile``, and timed in
turns with its peers on the same threads, everything from latents in memory to uint8 pixels in memory:

- ONNX Runtime on the graph as exported, at the best of several batches, one lane a processor;
- OpenVINO on the same graph with its bf16 hint where the processor has bf16, and its throughput hint;
- torch eager in fp32 and torch.compile in bf16 (max-autotune), channels last, at the best of several batches.

Each peer is checked to make the same pictures before it is timed. glibc is told to keep large blocks, without which
torch is up to three times slower on some of these.

Usage: python benchmarks/compiled.py [--only NAME] [--budget 60] [--seconds 12] [--json FILE]
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from torch import Tensor, nn

from gen_engine.engine.backends import open_backend
from gen_engine.engine.backends.openvino import shared_core
from gen_engine.engine.bundle import GENERATOR, Bundle, LatentSpec, OutputSpec, write_bundle
from gen_engine.engine.lanes import usable_cpus
from gen_engine.engine.latents import Latents
from gen_engine.engine.processor import isa, processor_name
from gen_engine.engine.variants import canonical_graph, variant_graph
from gen_engine.export.candidates import Options, computes
from gen_engine.export.compile import compile_bundle
from gen_engine.export.gate import LIMITS, judge
from gen_engine.export.rounds import Runner
from gen_engine.export.to_onnx import GeneratorWithPixels, to_onnx
from gen_engine.train.models import ModelConfig
from gen_engine.train.models.contract import Generator

THREADS = usable_cpus()
MALLOC = {"MALLOC_MMAP_THRESHOLD_": "1073741824", "MALLOC_TRIM_THRESHOLD_": "4294967296"}
BATCHES = (16, 64, 256)

REQUIRED_AMX = {
    "dcgan-64": (8.0, 2.0),
    "dcgan-28": (10.0, 1.4),
    "conv-vae": (7.0, 1.2),
    "wavegan": (5.0, 1.6),
    "upsample-conv": (10.0, 1.5),
    "mlp": (4.0, 1.2),
}
"""Over the naive export in ONNX Runtime, and over torch.compile in bf16: with AMX's matrix units."""

REQUIRED = 1.2
"""Over the naive export, on a processor without them."""


class Stack(Generator):
    """A generator of given layers; latents reach them as [B, Z]."""

    def __init__(self, layers: nn.Module, latent_dim: int, shape: tuple[int, int, int]) -> None:
        super().__init__(ModelConfig(family="dcgan", image_size=28, latent_dim=latent_dim))
        self.image_shape = shape
        self.layers = layers

    def decode(self, h_BF: Tensor) -> Tensor:
        images: Tensor = self.layers(h_BF)
        return images


def up(layer: type[nn.Module], norm: type[nn.Module], inputs: int, outputs: int, **how: int) -> list[nn.Module]:
    """Return a transposed convolution, its normalisation and its activation."""
    return [layer(inputs, outputs, bias=False, **how), norm(outputs), nn.ReLU()]


def doubled(inputs: int, outputs: int) -> list[nn.Module]:
    """Return a nearest doubling and its convolution."""
    convolution = nn.Conv2d(inputs, outputs, 3, padding=1, bias=False)
    return [nn.Upsample(scale_factor=2), convolution, nn.BatchNorm2d(outputs), nn.ReLU()]


def zoo() -> dict[str, Callable[[], Generator]]:
    """Return how each generator is made."""
    two, one = (nn.ConvTranspose2d, nn.BatchNorm2d), (nn.ConvTranspose1d, nn.BatchNorm1d)
    k4: dict[str, int] = {"kernel_size": 4, "stride": 2, "padding": 1}
    k5: dict[str, int] = {"kernel_size": 5, "stride": 2, "padding": 2, "output_padding": 1}
    k3: dict[str, int] = {"kernel_size": 3, "stride": 2, "padding": 1, "output_padding": 1}
    k25: dict[str, int] = {"kernel_size": 25, "stride": 4, "padding": 11, "output_padding": 1}

    def dcgan_64() -> Generator:
        layers = [nn.Unflatten(1, (100, 1, 1)), *up(*two, 100, 512, kernel_size=4)]
        for inputs, outputs in ((512, 256), (256, 128), (128, 64)):
            layers += up(*two, inputs, outputs, **k4)
        return Stack(nn.Sequential(*layers, nn.ConvTranspose2d(64, 3, **k4), nn.Tanh()), 100, (3, 64, 64))

    def dcgan_28() -> Generator:
        layers = [nn.Linear(100, 128 * 49), nn.Unflatten(1, (128, 7, 7)), *up(*two, 128, 64, **k5)]
        return Stack(nn.Sequential(*layers, nn.ConvTranspose2d(64, 1, **k5), nn.Tanh()), 100, (1, 28, 28))

    def conv_vae() -> Generator:
        layers = [
            nn.Linear(128, 64 * 64),
            nn.Unflatten(1, (64, 8, 8)),
            *up(*two, 64, 32, **k3),
            *up(*two, 32, 32, **k3),
        ]
        layers += [*up(*two, 32, 32, **k3), nn.Conv2d(32, 3, 3, padding=1), nn.Tanh()]
        return Stack(nn.Sequential(*layers), 128, (3, 64, 64))

    def wavegan() -> Generator:
        layers = [nn.Linear(100, 512 * 16), nn.Unflatten(1, (512, 16))]
        for inputs, outputs in ((512, 256), (256, 128), (128, 64), (64, 32)):
            layers += up(*one, inputs, outputs, **k25)
        layers += [nn.ConvTranspose1d(32, 1, **k25), nn.Tanh(), nn.Unflatten(2, (1, 16384))]
        return Stack(nn.Sequential(*layers), 100, (1, 1, 16384))

    def upsample_conv() -> Generator:
        layers = [nn.Linear(100, 256 * 64), nn.Unflatten(1, (256, 8, 8)), *doubled(256, 128), *doubled(128, 64)]
        layers += [*doubled(64, 32), nn.Conv2d(32, 3, 3, padding=1), nn.Tanh()]
        return Stack(nn.Sequential(*layers), 100, (3, 64, 64))

    def mlp() -> Generator:
        layers = [nn.Linear(100, 256), nn.ReLU(), nn.Linear(256, 784), nn.Tanh(), nn.Unflatten(1, (1, 28, 28))]
        return Stack(nn.Sequential(*layers), 100, (1, 28, 28))

    return {
        "dcgan-64": dcgan_64,
        "dcgan-28": dcgan_28,
        "conv-vae": conv_vae,
        "wavegan": wavegan,
        "upsample-conv": upsample_conv,
        "mlp": mlp,
    }


def well_scaled(generator: Generator) -> Generator:
    """Return it with the statistics of its own activations, and pictures that fill the range."""
    generator.train()
    for module in generator.modules():
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
            module.momentum = None  # the mean over the batches below
    with torch.no_grad():
        for _ in range(4):
            generator(torch.randn(64, generator.latent_dim))
        generator.eval()
        last = [m for m in generator.modules() if hasattr(m, "weight") and not isinstance(m, nn.BatchNorm2d)][-1]
        spread = torch.atanh(generator(torch.randn(64, generator.latent_dim)).clamp(-0.9999, 0.9999)).std()
        last.weight /= spread
    return generator


def bundle_of(name: str, generator: Generator, folder: Path) -> Bundle:
    """Return the generator as a bundle."""
    channels, height, width = generator.image_shape
    return write_bundle(
        folder / f"{name}.gen",
        name=name,
        latent=LatentSpec(dim=generator.latent_dim, distribution="normal"),
        labels=None,
        output=OutputSpec(modality="image", shape=(height, width, channels)),
        generator=to_onnx(generator),
        training={},
        parity={},
    )


class TorchPeer:
    """A generator in torch, with the conversion to pixels, at one batch."""

    def __init__(self, generator: Generator, batch: int, dtype: torch.dtype, *, compiled: bool) -> None:
        torch._dynamo.reset()
        self.batch, self._dtype = batch, dtype
        module = GeneratorWithPixels(generator).eval().to(dtype).to(memory_format=torch.channels_last)
        self._call = torch.compile(module, mode="max-autotune") if compiled else module
        self._latents = torch.from_numpy(Latents(dim=generator.latent_dim).draw(0, batch)).to(dtype)
        self.pixels()

    def pixels(self, latents: np.ndarray | None = None) -> np.ndarray:
        """Return uint8 [batch, H, W, C]."""
        z = self._latents if latents is None else torch.from_numpy(latents).to(self._dtype)
        with torch.inference_mode():
            return self._call(z)[1].numpy()

    def turn(self) -> float:
        """Return samples a second of a short while."""
        began, done = time.perf_counter(), 0
        while (seconds := time.perf_counter() - began) < 0.12:
            self.pixels()
            done += self.batch
        return done / seconds


class OpenVinoPeer:
    """The exported graph in OpenVINO as its guides say: throughput hint, bf16 hint, an asynchronous queue."""

    def __init__(self, bundle: Bundle, batch: int) -> None:
        import openvino

        self.batch = batch
        model = shared_core().read_model(bundle.load(GENERATOR))
        model.reshape({"latents": [batch, bundle.latent.dim]})
        precision = "bf16" if "bf16" in computes("openvino") else "f32"
        hints = {"PERFORMANCE_HINT": "THROUGHPUT", "INFERENCE_PRECISION_HINT": precision}
        self._queue = openvino.AsyncInferQueue(shared_core().compile_model(model, "CPU", hints), 2 * THREADS)
        self._latents = Latents(dim=bundle.latent.dim).draw(0, batch)
        self.turn()

    def pixels(self, latents: np.ndarray) -> np.ndarray:
        """Return uint8 [batch, H, W, C]."""
        found: list[np.ndarray] = []
        self._queue.set_callback(lambda request, _: found.append(request.get_tensor("pixels").data.copy()))
        self._queue.start_async({"latents": latents})
        self._queue.wait_all()
        self._queue.set_callback(lambda request, _: None)
        return found[0]

    def turn(self) -> float:
        """Return samples a second of a short while."""
        began, done = time.perf_counter(), 0
        while time.perf_counter() - began < 0.12:
            self._queue.start_async({"latents": self._latents})
            done += self.batch
        self._queue.wait_all()
        return done / (time.perf_counter() - began)


class EnginePeer:
    """A graph in a backend of the engine, with the lanes of a job."""

    def __init__(self, runner: Runner) -> None:
        self._runner = runner
        runner.warm_up()

    def pixels(self, latents: np.ndarray) -> np.ndarray:
        """Return uint8 [batch, H, W, C]."""
        lane = self._runner.backend.lane()
        try:
            lane.submit(latents, None)
            return lane.collect().copy()
        finally:
            lane.close()

    @property
    def batch(self) -> int:
        """Samples a call."""
        return self._runner.backend.batch

    def turn(self) -> float:
        """Return samples a second of a short while."""
        return self._runner.turn()


def best(what: str, make: Callable[[int], Any]) -> Any:
    """Return the peer at the batch at which it is fastest."""
    peers = []
    for batch in BATCHES:
        try:
            peers.append(make(batch))
        except Exception as error:  # a peer that does not work is left out, and said so
            print(f"  {what} at batch {batch} is left out: {str(error).splitlines()[0][:160]}", file=sys.stderr)
    if not peers:
        return None
    rates = [statistics.median(peer.turn() for _ in range(3)) for peer in peers]
    return peers[int(np.argmax(rates))]


def nominal_flops(model: bytes) -> float:
    """Return multiplications and additions of a sample in the matrix products of the graph as exported."""
    proto = onnx.shape_inference.infer_shapes(onnx.load_from_string(model), data_prop=True)
    shapes = {
        value.name: [dim.dim_value for dim in value.type.tensor_type.shape.dim]
        for value in (*proto.graph.value_info, *proto.graph.input, *proto.graph.output)
    } | {tensor.name: list(tensor.dims) for tensor in proto.graph.initializer}
    total = 0.0
    for node in proto.graph.node:
        if node.op_type in ("Gemm", "MatMul"):
            total += 2.0 * np.prod(shapes[node.input[1]])
        elif node.op_type in ("Conv", "ConvTranspose"):
            cells = shapes[node.output[0] if node.op_type == "Conv" else node.input[0]][2:]
            total += 2.0 * np.prod(shapes[node.input[1]]) * np.prod(cells)
    return total


def matrix_peak(dtype: torch.dtype) -> float:
    """Return FLOP/s of a 2048³ matrix product on these threads: the best of several."""
    a, b = torch.randn(2, 2048, 2048).to(dtype)
    rates = []
    for _ in range(6):
        began = time.perf_counter()
        a @ b
        rates.append(2 * 2048.0**3 / (time.perf_counter() - began))
    return max(rates)


def measure(name: str, make: Callable[[], Generator], folder: Path, budget: float, seconds: float) -> dict[str, Any]:
    """Compile one generator, and time it in turns with its peers."""
    torch.manual_seed(0)
    generator = well_scaled(make())
    bundle = bundle_of(name, generator, folder)
    began = time.perf_counter()
    compiled = compile_bundle(bundle, Options(budget=budget))
    compile_s = time.perf_counter() - began
    variant = compiled.variant

    def engine(target: str, graph: Any, batch: int) -> EnginePeer:
        backend = open_backend(target, compiled.bundle, graph, device="cpu", batch=batch)
        return EnginePeer(Runner(backend, compiled.bundle, lanes=THREADS))

    bf16, fp32 = torch.bfloat16, torch.float32
    peers = {
        "compiled": engine(variant.target, variant_graph(compiled.bundle, variant), variant.batch),
        "onnxruntime": best("onnxruntime", lambda b: engine("onnxruntime", canonical_graph(bundle), b)),
        "openvino": best("openvino", lambda b: OpenVinoPeer(bundle, b)),
        "torch eager fp32": best("torch eager", lambda b: TorchPeer(_copy(make, generator), b, fp32, compiled=False)),
        "torch.compile bf16": best(
            "torch.compile", lambda b: TorchPeer(_copy(make, generator), b, bf16, compiled=True)
        ),
    }
    peers = {what: peer for what, peer in peers.items() if peer is not None and _same(what, peer, bundle, generator)}
    rates: dict[str, list[float]] = {what: [] for what in peers}
    peaks: list[float] = []
    end = time.perf_counter() + seconds
    while time.perf_counter() < end or len(peaks) < 5:
        for what, peer in peers.items():
            rates[what].append(peer.turn())
        peaks.append(matrix_peak(bf16 if variant.precision == "bf16" else fp32))
    ratios = {
        what: statistics.median(a / b for a, b in zip(rates["compiled"], found, strict=True))
        for what, found in rates.items()
    }
    share = statistics.median(
        r * nominal_flops(bundle.load(GENERATOR)) / p for r, p in zip(rates["compiled"], peaks, strict=True)
    )
    return {
        "generator": name,
        "variant": f"{variant.name}, batch {variant.batch}",
        "lowerings": list(variant.lowerings),
        "samples_per_second": {what: round(statistics.median(found), 1) for what, found in rates.items()},
        "batches": {what: peer.batch for what, peer in peers.items()},
        "compiled_over": {what: round(ratio, 3) for what, ratio in ratios.items() if what != "compiled"},
        "share_of_matrix_peak": round(share, 4),
        "latency_at_1_over_onnxruntime": variant.speedup_at_1,
        "values_off_by_more_than_1": variant.gate["values_off"],
        "compile_seconds": round(compile_s, 1),
    }


def _copy(make: Callable[[], Generator], generator: Generator) -> Generator:
    other = make()
    other.load_state_dict(generator.state_dict())
    return other.eval()


def _same(what: str, peer: Any, bundle: Bundle, generator: Generator) -> bool:
    """Tell whether a peer makes the pictures of the exported graph: one that does not is not timed."""
    batch = peer.batch
    graph = canonical_graph(bundle)
    naive = open_backend("onnxruntime", bundle, graph, device="cpu", batch=batch).lane()
    latents = Latents(dim=generator.latent_dim, seed=9)
    sets = []
    for start in (0, batch):
        naive.submit(latents.draw(start, start + batch), None)
        sets.append(naive.collect().copy())
    verdict = judge(sets[0], peer.pixels(latents.draw(0, batch)), sets[1], LIMITS["bf16"])
    if verdict.psnr is not None and verdict.psnr < 30:
        print(f"  {what} makes other pictures ({verdict.psnr:.1f} dB) and is left out", file=sys.stderr)
        return False
    return True


def table(rows: list[dict[str, Any]]) -> Iterator[str]:
    """Yield the lines of the Markdown table."""
    peers = ("onnxruntime", "openvino", "torch eager fp32", "torch.compile bf16")
    yield "| generator | samples/s | " + " | ".join(f"÷ {peer}" for peer in peers) + " | share of peak | latency at 1 |"
    yield "|---" * (len(peers) + 4) + "|"
    for row in rows:
        over = [f"{row['compiled_over'][peer]:.2f}" if peer in row["compiled_over"] else "left out" for peer in peers]
        figures = [f"{row['samples_per_second']['compiled']:,.0f}", *over, f"{row['share_of_matrix_peak']:.0%}"]
        yield f"| {row['generator']} | " + " | ".join(figures) + f" | {row['latency_at_1_over_onnxruntime']:.2f} |"


def main() -> int:
    """Run what the command line asks for; return 1 if a requirement was missed."""
    if not all(os.environ.get(name) == value for name, value in MALLOC.items()):
        os.execve(sys.executable, [sys.executable, *sys.argv], os.environ | MALLOC)  # read when a process starts
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=zoo(), action="append")
    parser.add_argument("--budget", type=float, default=60.0, help="seconds of gen-engine compile, a generator")
    parser.add_argument("--seconds", type=float, default=12.0, help="seconds of rounds, a generator")
    parser.add_argument("--json", type=Path)
    asked = parser.parse_args()
    torch.set_num_threads(THREADS)
    amx = "amx_bf16" in isa()
    print(f"{processor_name()}, {' '.join(isa())}, {THREADS} threads, torch {torch.__version__}", flush=True)
    if not amx:
        print(f"no AMX here: the requirement is {REQUIRED} × the naive export, not the table for matrix units")
    rows, missed = [], []
    with tempfile.TemporaryDirectory() as folder:
        for name, make in zoo().items():
            if asked.only and name not in asked.only:
                continue
            print(f"{name} …", file=sys.stderr, flush=True)
            rows.append(measure(name, make, Path(folder), asked.budget, asked.seconds))
            print(json.dumps(rows[-1]), file=sys.stderr, flush=True)
            over = rows[-1]["compiled_over"]
            wanted = (
                dict(zip(("onnxruntime", "torch.compile bf16"), REQUIRED_AMX[name], strict=True))
                if amx
                else {"onnxruntime": REQUIRED}
            )
            missed += [f"{name}: {over[p]:.2f} × {p}, {w} required" for p, w in wanted.items() if over.get(p, w) < w]
    print("\n".join(table(rows)))
    for miss in missed:
        print(f"missed: {miss}")
    if asked.json:
        asked.json.write_text(json.dumps(rows, indent=1), encoding="utf-8")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
