"""The parts of a synthetic scene: words, fonts, signs, surfaces, backgrounds, clutter and the camera."""
