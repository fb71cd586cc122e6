"""Where each framework keeps its tensors: name tables, readers and writers."""
