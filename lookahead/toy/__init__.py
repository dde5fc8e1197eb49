"""The toy world: its texts (world.py), its task and its small chat model (aligned.py)."""
