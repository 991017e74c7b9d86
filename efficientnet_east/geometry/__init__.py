"""Quadrilaterals, label maps and their inverse, non-maximum suppression: NumPy only."""
