"""Text from a model: how tokens are chosen, one idea a file."""
