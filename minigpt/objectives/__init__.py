"""What a model learns from a text: to go on, to fill gaps, to restore spans. Arrays and a random stream only, no model."""
