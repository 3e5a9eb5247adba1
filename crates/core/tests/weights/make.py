"""Checkpoints of PyTorch for tests/weights.rs, and the numbers their networks give.

Run: python make.py      (needs torch 2.15 and torchvision; writes beside itself, the same bytes every time)

resnet18.pth    torchvision's resnet18 with every channel count divided by 64 and 5 classes: a state dict
mlp.pth         a perceptron of two hidden layers on images of 3 channels and 4 pixels
training.pth    what a training script saves: {"epoch", "state_dict"} with names under "module.", parameters and not tensors
kinds.pth       one tensor of every element type, a transposed one, a view with an offset, two that share memory, a scalar
legacy.pth      the form before PyTorch 1.6
hostile.pth     asks the reader to call print
expected.json   embeddings of resnet18.pth (in evaluation mode) and of mlp.pth for the images that `Draw` of make_networks.py gives, and the values of the
                other files
"""
import json
import sys
from collections import OrderedDict
from pathlib import Path

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
            keep = [length if axis == 0 and name == "fc" or axis == 1 and name == "conv1" or axis > 1 else length // factor
                    for axis, length in enumerate(value.shape)]
            for axis, length in enumerate(keep):
                value.data = value.data.narrow(axis, 0, length).clone()
    return network


class Hostile:
    def __reduce__(self):
        return print, ("this must not run",)


torch.set_default_dtype(torch.float32)
torch.manual_seed(1)
network = narrow(torchvision.models.resnet18(num_classes=5), 64)
for name, value in network.state_dict().items():
    if name.endswith("running_mean"):
        value.uniform_(-0.2, 0.2)
    elif name.endswith("running_var"):
        value.uniform_(0.5, 1.5)
    elif name.endswith("num_batches_tracked"):
        value.fill_(7)
network.eval()
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
expected["kinds"] = {key: numbers(value) for key, value in kinds.items()}
torch.save({"fc.weight": values}, here / "legacy.pth", _use_new_zipfile_serialization=False)
torch.save({"fc.weight": values, "extra": Hostile()}, here / "hostile.pth")
(here / "expected.json").write_text(json.dumps(expected))
