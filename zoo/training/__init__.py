"""Training: the recipe's data, the loop, and networks on one device or dealt out over several.

An import sets no environment variable. `zoo train` sets `SETTINGS`, and so have the processes that this package starts;
a program that trains in its own process may set them before it imports torch.
"""

# The frameworks that train.
TRAINERS = ("pytorch", "tf_slim")

# Keras 3.15, `optimizers/base_optimizer.py`: one `learning_rate`, and `_apply_weight_decay` sets w = w - lr decay w
# before the update. The recipes have v = m v + rate (g + decay w), with rates of a layer's own.
NO_TRAINERS = {
    "keras": "Keras' optimisers have one rate for all parameters, and keep weight decay out of the momentum: no recipe "
    "here can be followed exactly; train by pytorch or tf_slim, and convert the weights to .keras"
}

# What torch reads once, as it is first imported.
SETTINGS = {
    # Threads that wait for each other give their core away instead of spinning: beside any other busy process, spinning
    # makes a step of training ten to fifty times slower.
    "OMP_WAIT_POLICY": "passive",
    # But not at once (GNU's OpenMP counts turns of a loop; these last some ten microseconds): waking a thread takes
    # longer than many a layer's work on a piece of an activation.
    "GOMP_SPINCOUNT": "1000",
    # Memory comes in pages of 2 MB where the system has them: a batch of activations is tens of megabytes, and asking
    # for them 4 kB at a time took longer than a ReLU's arithmetic.
    "THP_MEM_ALLOC_ENABLE": "1",
}
