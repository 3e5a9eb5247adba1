"""Golden features of timm's MobileNets under timm's own names, computed with PyTorch in float64.

Run: python make_timm.py OUT.json SEED      (needs torch, timm and numpy)

Weights and images are drawn as in make_networks.py; so that normalisations differ from the identity, of the running statistics the
    mean: 0.1 * hashed(name);  variance: 1 + 0.5 * hashed(name).  Products and sums rounded to float32.
"""
import json
import sys

import numpy as np
import timm
import torch

from make_networks import Draw, summary

NETWORKS = {"mobilenetv2_100": "mobilenet-v2", "mobilenetv3_small_100": "mobilenet-v3-small", "mobilenetv3_large_100": "mobilenet-v3-large"}
SHAPE = (2, 3, 32, 32)


def case(draw, name, kind):
    network = draw.fill(timm.create_model(name, pretrained=False))
    for key, buffer in network.named_buffers():
        values = draw.hashed(key, tuple(buffer.shape))
        if key.endswith("running_mean"):
            buffer.copy_(torch.tensor(np.float32(0.1) * values))
        if key.endswith("running_var"):
            buffer.copy_(torch.tensor(np.float32(1) + np.float32(0.5) * values))
    tensors = {key: list(tensor.shape) for key, tensor in network.state_dict().items()}
    network = network.double().eval()
    with torch.no_grad():
        features = network.forward_head(network.forward_features(draw.images(0, SHAPE).double()), pre_logits=True)
    return {"name": name, "kind": kind, "input_shape": list(SHAPE), "tensors": tensors, "pooled": summary(features)}


def main(path, seed):
    draw = Draw(seed)
    with open(path, "w") as f:
        json.dump({"seed": seed, "networks": [case(draw, *entry) for entry in NETWORKS.items()]}, f)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
