"""The layers that Keras lacks, a file a family of kinds; a network's source carries those that it uses.

They are written with `keras.ops` alone, so that they run on every backend, and are registered, so that a saved model
loads wherever that source is imported. Nothing here is imported by the rest: the text is what counts.
"""
