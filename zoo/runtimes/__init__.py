"""What networks are deployed on: a file a runtime, found by its name; `zoo.registry.RunsOnnx` says what it offers."""
