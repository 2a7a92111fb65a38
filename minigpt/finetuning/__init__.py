"""A trained model learns a task from a table of examples."""
