"""python onnx_predict.py onnx/with_lens.onnx face.jpg (head_only.onnx takes captures, no clear picture)"""

import sys

import numpy as np
import onnxruntime
from PIL import Image, ImageOps

graph = onnxruntime.InferenceSession(sys.argv[1])
about = graph.get_modelmeta().custom_metadata_map
size = int(about["picture_size"])
photo = ImageOps.exif_transpose(Image.open(sys.argv[2])).convert("RGB")
photo = ImageOps.fit(photo, [min(photo.size)] * 2).resize((size, size), Image.Resampling.LANCZOS)
pixels = np.asarray(photo, np.float32).transpose(2, 0, 1)[None] / 255
noise = np.random.default_rng(0).standard_normal(pixels.shape, np.float32)
inputs = {"picture": pixels, "noise": noise, "times_s": np.zeros(1)}
wanted = {each.name: inputs[each.name] for each in graph.get_inputs()}
score = float(np.clip(graph.run(["severity"], wanted)[0].mean(), 0, 63))
print(f"BDI-II {score:.1f}; 90 % of recordings are within {about['half_width']} points.")
print(about["notes"], about["disclaimer"], sep="\n")
