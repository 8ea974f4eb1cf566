"""Where examples come from: TFDS, image folders, array files, and made-up ones."""
