"""Training on one device or across two towers."""
