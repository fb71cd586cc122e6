"""Caffe: prototxt in and out, and a forward pass through the Caffe runtime at hand.

The vocabulary, read and written from one row a kind, is in `vocabulary`. The runtimes (pycaffe, OpenCV) are imported
when something is run; reading and writing needs neither.
"""

from zoo.frameworks.caffe.images import images_beside
from zoo.frameworks.caffe.live import forward, forward_file, runtime
from zoo.frameworks.caffe.lower import Lowered, as_scales, for_caffe, rewrite_all, without_k, without_overhang
from zoo.frameworks.caffe.prototxt import parse_prototxt, read_prototxt, with_images
from zoo.frameworks.caffe.reader import CaffeNet
from zoo.frameworks.caffe.schema import ENUMS
from zoo.frameworks.caffe.source import caffemodel_pieces, generate
from zoo.frameworks.caffe.writer import NetLayer, deploy_text, input_layer, layer_blobs, net_layers

# Whose version says whether the framework is there, and the packages that its extra brings.
DISTRIBUTION = "opencv-python-headless"
PACKAGES = ("cv2", "google")  # google: protobuf

__all__ = [
    "ENUMS",
    "CaffeNet",
    "Lowered",
    "NetLayer",
    "as_scales",
    "caffemodel_pieces",
    "deploy_text",
    "for_caffe",
    "forward",
    "forward_file",
    "generate",
    "images_beside",
    "input_layer",
    "layer_blobs",
    "net_layers",
    "parse_prototxt",
    "read_prototxt",
    "rewrite_all",
    "runtime",
    "with_images",
    "without_k",
    "without_overhang",
]
