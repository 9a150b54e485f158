"""RLDS episodes out of TensorFlow-Datasets directories, without TensorFlow."""
