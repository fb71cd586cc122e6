"""One folder, one framework; the folder's name is the framework's name."""
