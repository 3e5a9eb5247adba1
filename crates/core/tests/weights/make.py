"""Checkpoints of PyTorch for tests/weights.rs, and the numbers their networks give.

Run: python make.py      (needs torch 2.15 and torchvision; writes beside itself, the same bytes every time)

resnet18.pth    torchvision's resnet18 with every channel count divided by 64 and 5 classes: a state dict
mlp.pth         a perceptron of two hidden layers on images of 3 channels and 4 pixels
training.pth    what a training script saves: {"epoch", "state_dict"} with names under "module.", parameters and not tensors
kinds.pth       one tensor of every element type, a transposed one, a view with an offset, two that share memory, a scalar
legacy.pth      the form before PyTorch 1.6
hostile.pth     asks the reader to call print
beside.pth      a state dict with what training scripts save beside one: metrics as tensors and as numbers of NumPy, a namespace, a path, sets, bytes, a
                long number, the optimiser's state, a generator's, a mask; the state dict has tied weights, an expanded one and every type of whole numbers
unread.pth      under a key each, tensors that are not read: quantised, sparse, complex, of 8-bit floats, of the meta device, with a sign that is not resolved
unchecked.pth   without checksums, as torch.serialization.set_crc32_options(False) writes it
kinds-of-21-letters-x.pth   kinds.pth under a name of so many letters, which the archive has inside
zip64.pth       kinds.pth with the ZIP format's fields of 64 bits
whole.pth       a whole model (torch.save(model)), in today's form; whole-legacy.pth in that before PyTorch 1.6
script.pt       a TorchScript model
vgg11.pth       torchvision's vgg11_bn with every channel count divided by 64
expected.json   embeddings of resnet18.pth and of mlp.pth for the images that `Draw` of make_networks.py gives, the second linear layer's outputs of
                vgg11.pth for images of 64 and 256 pixels (all in evaluation mode), and the values of the other files
"""
import argparse
import json
import pathlib
import sys
import warnings
import zipfile
from collections import OrderedDict, defaultdict
from pathlib import Path

import numpy
import torch
import torchvision

here = Path(__file__).parent
sys.path.insert(0, str(here / "../../../../test/golden"))
from make_networks import Draw  # noqa: E402: the hash that both sides draw their images with


def numbers(values):
    return {"shape": list(values.shape), "data": [float(v) for v in values.detach().double().flatten()]}


def narrow(network, factor):
    """Keeps the first 1/factor of all channels, but those of the images and of the classes."""
    for name, module in network.named_modules():
        for key, value in [*module.named_parameters(recurse=False), *module.named_buffers(recurse=False)]:
            if value.dim() == 0:
                continue
            keep = [length if axis == 0 and name == "fc" or axis == 1 and name in ("conv1", "features.0") or axis > 1 else length // factor
                    for axis, length in enumerate(value.shape)]
            for axis, length in enumerate(keep):
                value.data = value.data.narrow(axis, 0, length).clone()
    return network


def trained(network):
    """Running statistics as after training, in evaluation mode."""
    for name, value in network.state_dict().items():
        if name.endswith("running_mean"):
            value.uniform_(-0.2, 0.2)
        elif name.endswith("running_var"):
            value.uniform_(0.5, 1.5)
        elif name.endswith("num_batches_tracked"):
            value.fill_(7)
    return network.eval()


class Hostile:
    def __reduce__(self):
        return print, ("this must not run",)


torch.set_default_dtype(torch.float32)
torch.manual_seed(1)
network = trained(narrow(torchvision.models.resnet18(num_classes=5), 64))
images = Draw(1).images("weights", (2, 3, 32, 32))
expected = {"embedding": numbers(network(images))}
torch.save(network.state_dict(), here / "resnet18.pth")

perceptron = torch.nn.Sequential(OrderedDict(
    flatten=torch.nn.Flatten(), fc=torch.nn.Linear(5, 3),
    layers=torch.nn.Sequential(torch.nn.Linear(48, 6), torch.nn.ReLU(), torch.nn.Linear(6, 5), torch.nn.ReLU())))
vectors = Draw(1).images("weights", (2, 3, 4, 4))
expected["mlp"] = numbers(perceptron.fc(perceptron.layers(perceptron.flatten(vectors))))
torch.save(perceptron.state_dict(), here / "mlp.pth")

parallel = torch.nn.DataParallel(torch.nn.Sequential(OrderedDict(fc=torch.nn.Linear(2, 3))))
torch.save({"epoch": 3, "best": 0.5, "name": "tiny", "steps": [1, 2**40, -5], "done": True, "scheduler": None,
            "state_dict": {key: torch.nn.Parameter(value) for key, value in parallel.state_dict().items()}}, here / "training.pth")
expected["training"] = {key: numbers(value) for key, value in parallel.module.state_dict().items()}

values = torch.tensor([[1.0, -2.5, 3.0078125], [0.0, 65504.0, -1e-7]])
shared = torch.arange(6, dtype=torch.float32)
kinds = {"float32": values, "float16": values.half(), "bfloat16": values.bfloat16(), "float64": values.double(), "int64": torch.tensor([3, -4, 2**33]),
         "transposed": values.t(), "offset": shared[2:5], "shared": shared, "scalar": torch.tensor(7), "empty": torch.zeros(0, 3)}
torch.save(kinds, here / "kinds.pth")
torch.save(kinds, here / "kinds-of-21-letters-x.pth")
expected["kinds"] = {key: numbers(value) for key, value in kinds.items()}
torch.save({"fc.weight": values}, here / "legacy.pth", _use_new_zipfile_serialization=False)
torch.save({"fc.weight": values, "extra": Hostile()}, here / "hostile.pth")

tied = torch.tensor([[0.5, -0.25]])
state = {"fc.weight": tied, "tied.weight": tied, "ids": torch.arange(3).expand(2, 3), "bool": torch.tensor([True, False]),
         **{str(kind).removeprefix("torch."): torch.tensor([1, 200 if kind == torch.uint8 else 100], dtype=kind)
            for kind in (torch.uint8, torch.int8, torch.int16, torch.int32, torch.uint16, torch.uint32, torch.uint64)}}
tied.attribute = "a tensor with an attribute is of another form"
layer = torch.nn.Linear(2, 2)
adam = torch.optim.Adam(layer.parameters())
layer(torch.ones(1, 2)).sum().backward()
adam.step()
torch.save({"best_acc1": torch.tensor([71.5]), "best": numpy.float64(0.7), "array": numpy.ones(3, numpy.float32), "args": argparse.Namespace(lr=0.1),
            "path": pathlib.PurePosixPath("/x"), "history": defaultdict(list, loss=[1.5]), "device": torch.device("cpu"), "size": torch.Size([3, 4]),
            "dtype": torch.float16, "seen": {1}, "frozen": frozenset([2]), "raw": b"abc", "more": bytearray(b"abc"), "big": 2**80, "complex": 1j,
            "slice": slice(1, 2), "optimizer": adam.state_dict(), "rng": torch.get_rng_state(), "rngs": {"cpu": torch.get_rng_state()},
            "mask": torch.ones(3, dtype=torch.bool), "state_dict": state}, here / "beside.pth")
expected["beside"] = {key: numbers(value) for key, value in state.items()}

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    unread = {"quantised": torch.quantize_per_tensor(torch.ones(2), 1.0, 0, torch.qint8), "sparse": torch.eye(3).to_sparse(),
              "complex": torch.zeros(2, dtype=torch.complex64), "float8": torch.zeros(2, dtype=torch.float8_e4m3fn),
              "meta": torch.zeros(2, device="meta"), "sign": torch.zeros(2, dtype=torch.complex64).conj().imag}
torch.save({key: {"fc.weight": value} for key, value in unread.items()}, here / "unread.pth")

torch.serialization.set_crc32_options(False)
torch.save({"fc.weight": values}, here / "unchecked.pth")
torch.serialization.set_crc32_options(True)
with zipfile.ZipFile(here / "kinds.pth") as kinds, zipfile.ZipFile(here / "zip64.pth", "w") as wide:
    for entry in kinds.infolist():
        with wide.open(zipfile.ZipInfo(entry.filename), "w", force_zip64=True) as out:
            out.write(kinds.read(entry))
for name, form in (("whole.pth", {}), ("whole-legacy.pth", {"_use_new_zipfile_serialization": False})):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.save(layer, here / name, **form)
        torch.jit.save(torch.jit.trace(layer, torch.ones(1, 2)), here / "script.pt")

torch.manual_seed(2)
vgg = trained(narrow(torchvision.models.vgg11_bn(num_classes=320), 64))
# Weights of another size than torchvision's start, whose outputs would be nearly all zero.
for name, value in vgg.named_parameters():
    if value.dim() == 2:
        value.data = torch.randn(value.shape) / value.shape[1] ** 0.5
torch.save(vgg.state_dict(), here / "vgg11.pth")
for side in (64, 256):
    maps = vgg.avgpool(vgg.features(Draw(1).images("weights", (2, 3, side, side)))).flatten(1)
    expected[f"vgg{side}"] = numbers(vgg.classifier[:6](maps))
(here / "expected.json").write_text(json.dumps(expected))
