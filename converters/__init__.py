"""How weights move between frameworks, and how we know that they still mean the same network."""
