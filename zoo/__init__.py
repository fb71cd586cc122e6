"""What the models are: one canonical AlexNet spec, its family, and the frameworks that run it."""
