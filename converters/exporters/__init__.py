"""One file a framework: its own exporter to ONNX, as people run it."""
