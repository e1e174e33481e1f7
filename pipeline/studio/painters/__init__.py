"""What turns sketches into images, one file per kind of generator."""
