"""One file a task: its columns, its examples, its head, its loss and its figures."""
