"""What files are told by, where their readers and those who only ask what a file is both need to know it."""

import struct

# A member of a zip archive, its first one too (zip's APPNOTE.TXT, 4.3.7).
ZIP = b"PK\x03\x04"
# The last bytes of a table, which a checkpoint's index is, and a V1 checkpoint (tensorflow/core/lib/io/format.h).
TABLE_END = struct.pack("<Q", 0xDB4775248B80FB57)
# Fields of Caffe's NetParameter: its name, current layers, and those of V1 (2014) and V0 (2013).
NET_NAME, NET_LAYER, NET_LAYERS = 1, 100, 2
# The first field of its SolverState is a number, that of a network its name.
SOLVER_ITER = 1
# Of its BlobProto: four sizes, which became a shape, and the numbers.
BLOB_SIZES, BLOB_SHAPE, BLOB_DATA = (1, 2, 3, 4), 7, 5
# ONNX's ModelProto.
MODEL_GRAPH = 7
