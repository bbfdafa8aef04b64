"""From a trained generator to a bundle that sampling can run."""
