"""The families of backbones, one file each, as numbers. `catalog.FAMILIES` lists them. No TensorFlow here."""
