"""One file of data a family, named like its model_type; each holds a `FAMILY`, and is found by its name."""
