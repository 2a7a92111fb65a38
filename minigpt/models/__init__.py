"""Models: the equations, and only the equations."""
