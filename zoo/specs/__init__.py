"""One file, one family member; the file's name is the model's name."""
