"""Exchange with the world: models as Hugging Face folders, read and written through one table of data a family."""
