"""Training: the recipe's data, the loop, and networks on one device or dealt out over several.

An import sets no environment variable. `zoo train` sets `SETTINGS`, and so have the processes that this package starts;
a program that trains in its own process may set them before it imports torch.
"""

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
