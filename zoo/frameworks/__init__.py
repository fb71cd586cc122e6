"""One file, one framework; the file's name is the framework's name."""
