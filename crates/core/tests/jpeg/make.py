"""Makes the files beside it: a small picture as JPEG in the ways people have them, and the pixels that Pillow reads from each.

    python make.py

It needs numpy and pillow. `src/data/decode/jpeg` compares its own pixels with them.
"""

import pathlib

import numpy
from PIL import Image, features

HERE = pathlib.Path(__file__).parent
# No multiple of any block.
WIDTH, HEIGHT = 45, 37


def picture():
    y, x = numpy.mgrid[0:HEIGHT, 0:WIDTH]
    waves = [numpy.sin(x / 5 + y / 9), numpy.cos(x / 3 - y / 4), numpy.sin(x * y / 60)]
    pixels = numpy.stack(waves, -1) * 110 + 128
    pixels[8:20, 10:30] = [250, 10, 20]
    pixels[15:30, 25:40] = [5, 20, 240]
    noise = numpy.random.default_rng(1).normal(0, 12, pixels.shape)
    return Image.fromarray((pixels + noise).clip(0, 255).astype("uint8"))


def write(name, image=picture(), **options):
    path = HERE / f"{name}.jpg"
    image.save(path, "JPEG", **options)
    with Image.open(path) as found:
        found.load()
        found.save(HERE / f"{name}.png", optimize=True)


print(features.version("libjpeg_turbo"), Image.__version__)
for kind in ["4:4:4", "4:2:2", "4:2:0"]:
    write(f"sequential-{kind.replace(':', '')}", subsampling=kind, quality=80)
    write(f"progressive-{kind.replace(':', '')}", subsampling=kind, quality=90, progressive=True)
write("grey", picture().convert("L"), quality=75)
write("progressive-grey", picture().convert("L"), quality=75, progressive=True)
write("restarts", subsampling="4:2:0", quality=50, restart_marker_blocks=2)
write("thin", picture().crop((0, 0, 3, 37)), subsampling="4:2:0", quality=90)
write("rgb", subsampling="4:4:4", quality=85, keep_rgb=True)
write("coarse", subsampling="4:2:0", quality=5, optimize=True)
